"""What the sealing, stamping and audit of the log found last."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

# Sortable text on SQLite, which has no times of its own.
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "log_health",
        sa.Column("part", sa.String(20), nullable=False),
        sa.Column("checked_at", TIME, nullable=False),
        sa.Column("trouble", sa.Text(), nullable=True),
        sa.Column("since", TIME, nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("part", name="pk_log_health"),
    )


def downgrade() -> None:
    op.drop_table("log_health")
