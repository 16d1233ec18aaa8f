"""Whether a controller takes addresses that are thrown away."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "guard_rule",
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("refuse_disposable", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["controller_id"], ["controller.id"], name="fk_guard_rule_controller_id_controller"),
        sa.PrimaryKeyConstraint("controller_id", name="pk_guard_rule"),
    )


def downgrade() -> None:
    op.drop_table("guard_rule")
