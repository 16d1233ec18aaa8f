"""What is left of the erased is found by its age without reading all."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

TABLES = ("message", "confirmation")


def upgrade() -> None:
    for table in TABLES:
        op.create_index(
            f"ix_{table}_residue",
            table,
            ["created_at"],
            postgresql_where=sa.text("contact_id IS NULL"),
            sqlite_where=sa.text("contact_id IS NULL"),
        )


def downgrade() -> None:
    for table in TABLES:
        op.drop_index(f"ix_{table}_residue", table)
