"""Mails that wait after an attack are found at once."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

WAITING = "state = 'held' AND sealed IS NOT NULL"


def upgrade() -> None:
    op.create_index(
        "ix_message_quarantine",
        "message",
        ["created_at"],
        postgresql_where=sa.text(WAITING),
        sqlite_where=sa.text(WAITING),
    )


def downgrade() -> None:
    op.drop_index("ix_message_quarantine", "message")
