"""Forms that are under attack, from when it was seen until it is over."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# Sortable text on SQLite, which has no times of its own.
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "attack",
        sa.Column("form_id", sa.String(length=40), nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("seen_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["form_id"], ["form.id"], name="fk_attack_form_id_form"),
        sa.ForeignKeyConstraint(["controller_id"], ["controller.id"], name="fk_attack_controller_id_controller"),
        sa.PrimaryKeyConstraint("form_id", name="pk_attack"),
    )


def downgrade() -> None:
    op.drop_table("attack")
