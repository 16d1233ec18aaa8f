"""The guard against abuse: spent proofs, hourly counts."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# Sortable text on SQLite, which has no times of its own.
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "spent_proof",
        sa.Column("nonce", sa.String(length=40), nullable=False),
        sa.Column("press", sa.String(length=40), nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("nonce", name="pk_spent_proof"),
    )
    op.create_index("ix_spent_proof_expiry", "spent_proof", ["expires_at"])
    op.create_table(
        "flow",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("usual", sa.Integer(), nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("key", "hour", name="pk_flow"),
    )
    op.create_index("ix_flow_expiry", "flow", ["expires_at"])


def downgrade() -> None:
    op.drop_table("flow")
    op.drop_table("spent_proof")
