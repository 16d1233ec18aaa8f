"""Preferences: how often a person wants to hear from the sender, and until when not at all."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# Sortable text on SQLite, which has no times of its own.
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.add_column("subscription", sa.Column("frequency", sa.Text(), nullable=False, server_default="all"))
    op.add_column("subscription", sa.Column("paused_until", TIME, nullable=True))


def downgrade() -> None:
    op.drop_column("subscription", "paused_until")
    op.drop_column("subscription", "frequency")
