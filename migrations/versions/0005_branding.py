"""Logos of controllers, and drafts of forms."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Sortable text on SQLite, which has no times of its own.
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "logo",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["controller_id"], ["controller.id"], name="fk_logo_controller_id_controller"),
        sa.PrimaryKeyConstraint("name", name="pk_logo"),
    )
    op.add_column("controller", sa.Column("logo", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("form", sa.Column("draft", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("form", "draft")
    op.drop_column("controller", "logo")
    op.drop_table("logo")
