"""Reports: what came back by mail, once each."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Sortable text on SQLite, which has no times of its own.
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "inbound_report",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=True),
        sa.Column("contact_id", sa.String(length=40), nullable=True),
        sa.Column("way", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("received_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_inbound_report"),
    )
    op.create_index("uq_inbound_report_key", "inbound_report", ["key"], unique=True)
    op.create_index("ix_inbound_report_contact", "inbound_report", ["contact_id", "received_at"])
    op.create_index("ix_inbound_report_outcome", "inbound_report", ["outcome", "received_at"])
    op.create_index("ix_inbound_report_expiry", "inbound_report", ["expires_at"])


def downgrade() -> None:
    op.drop_table("inbound_report")
