"""Typed codes: the hash of a mailed code, and how often it was mistyped; how often a mail was asked for again."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _count(name: str) -> sa.Column:
    return sa.Column(name, sa.Integer(), nullable=False, server_default="0")


def upgrade() -> None:
    op.add_column("confirmation", sa.Column("code_hash", sa.LargeBinary(), nullable=True))
    op.add_column("confirmation", _count("code_tries"))
    op.add_column("submission", _count("resends"))
    op.add_column("submission", _count("code_tries"))


def downgrade() -> None:
    op.drop_column("submission", "code_tries")
    op.drop_column("submission", "resends")
    op.drop_column("confirmation", "code_tries")
    op.drop_column("confirmation", "code_hash")
