"""What people say in the fields that a form declares."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("contact", sa.Column("fields", sa.Text(), server_default=sa.text("'{}'"), nullable=False))
    op.add_column("confirmation", sa.Column("told", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column("confirmation", "told")
    op.drop_column("contact", "fields")
