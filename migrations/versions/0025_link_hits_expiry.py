"""Counts of opened links know when they may be forgotten."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

# Sortable text on SQLite, which has no times of its own.
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.add_column("link_hits", sa.Column("expires_at", TIME, nullable=True))
    # Nothing says what an old count is about, so it stays as long as the longest.
    until = datetime.now(UTC) + timedelta(days=400)
    spelled = sa.literal(f"{until:%Y-%m-%dT%H:%M:%S.000Z}") if op.get_bind().dialect.name == "sqlite" else until
    counts = sa.table("link_hits", sa.column("expires_at", TIME))
    op.execute(counts.update().values(expires_at=spelled))
    op.create_index("ix_link_hits_expiry", "link_hits", ["expires_at"])


def downgrade() -> None:
    op.drop_index("ix_link_hits_expiry", "link_hits")
    op.drop_column("link_hits", "expires_at")
