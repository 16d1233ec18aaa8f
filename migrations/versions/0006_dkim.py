"""Keys that sign a controller's mails."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Sortable text on SQLite, which has no times of its own.
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "dkim_key",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("selector", sa.String(length=63), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["controller_id"], ["controller.id"], name="fk_dkim_key_controller_id_controller"),
        sa.PrimaryKeyConstraint("id", name="pk_dkim_key"),
        sa.UniqueConstraint("controller_id", "domain", "selector", name="uq_dkim_key_controller_id_domain_selector"),
    )
    op.add_column(
        "controller", sa.Column("dkim_key", sa.String(length=40), nullable=False, server_default=sa.text("''"))
    )


def downgrade() -> None:
    op.drop_column("controller", "dkim_key")
    op.drop_table("dkim_key")
