"""What the DNS records of a sender said when they were last looked up."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

# Sortable text on SQLite, which has no times of its own.
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "sender_check",
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("sender", sa.String(length=320), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("findings", sa.Text(), nullable=False),
        sa.Column("checked_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["controller_id"], ["controller.id"], name="fk_sender_check_controller_id_controller"),
        sa.PrimaryKeyConstraint("controller_id", "sender", name="pk_sender_check"),
    )


def downgrade() -> None:
    op.drop_table("sender_check")
