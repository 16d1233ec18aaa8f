"""How often each form was seen, by the hour."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Sortable text on SQLite, which has no times of its own.
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "form_views",
        sa.Column("form_id", sa.String(length=40), nullable=False),
        sa.Column("hour", TIME, nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("views", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["form_id"], ["form.id"], name="fk_form_views_form_id_form"),
        sa.ForeignKeyConstraint(["controller_id"], ["controller.id"], name="fk_form_views_controller_id_controller"),
        sa.PrimaryKeyConstraint("form_id", "hour", name="pk_form_views"),
    )


def downgrade() -> None:
    op.drop_table("form_views")
