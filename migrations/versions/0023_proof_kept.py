"""Subscriptions whose proof is kept for years after their end are found without reading all."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

ONCE_ACTIVE = "status IN ('ended', 'expired', 'refused') AND activated_at IS NOT NULL"


def upgrade() -> None:
    op.create_index(
        "ix_subscription_proof",
        "subscription",
        ["ended_at"],
        postgresql_where=sa.text(ONCE_ACTIVE),
        sqlite_where=sa.text(ONCE_ACTIVE),
    )


def downgrade() -> None:
    op.drop_index("ix_subscription_proof", "subscription")
