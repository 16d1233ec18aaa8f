"""The journal of erasures."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Sortable text on SQLite, which has no times of its own.
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "erasure",
        sa.Column("subject_hash", sa.LargeBinary(), nullable=False),
        sa.Column("erased_at", TIME, nullable=False),
        sa.Column("reason", sa.String(length=20), nullable=False),
        sa.PrimaryKeyConstraint("subject_hash", name="pk_erasure"),
    )


def downgrade() -> None:
    op.drop_table("erasure")
