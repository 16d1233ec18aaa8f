"""New addresses that their owners have yet to confirm."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# Sortable text on SQLite, which has no times of its own.
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "address_change",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("contact_id", sa.String(length=40), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["controller_id"], ["controller.id"], name="fk_address_change_controller_id_controller"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_address_change"),
    )
    op.create_index("uq_address_change_token", "address_change", ["token_hash"], unique=True)
    op.create_index("ix_address_change_contact", "address_change", ["contact_id"])
    op.create_index("ix_address_change_expiry", "address_change", ["expires_at"])


def downgrade() -> None:
    op.drop_table("address_change")
