"""Whom to tell at a controller about new subscribers."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# Sortable text on SQLite, which has no times of its own.
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "staff_notice",
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("every", sa.Text(), nullable=False),
        sa.Column("locale", sa.String(length=10), nullable=False),
        sa.Column("told_until", TIME, nullable=False),
        sa.Column("sent_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["controller_id"], ["controller.id"], name="fk_staff_notice_controller_id_controller"),
        sa.PrimaryKeyConstraint("controller_id", name="pk_staff_notice"),
    )


def downgrade() -> None:
    op.drop_table("staff_notice")
