"""The sealed log: tiles of its tree, checkpoints, their keys and time stamps."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

# Sortable text on SQLite, which has no times of its own.
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "log_tile",
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "number", name="pk_log_tile"),
    )
    op.create_table(
        "checkpoint",
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("size", name="pk_checkpoint"),
    )
    op.create_index("ix_checkpoint_created", "checkpoint", ["created_at"])
    op.create_table(
        "log_key",
        sa.Column("first_size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("first_size", name="pk_log_key"),
    )
    op.create_table(
        "log_timestamp",
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("token", sa.LargeBinary(), nullable=False),
        sa.Column("authority", sa.Text(), nullable=False),
        sa.Column("stamped_at", TIME, nullable=False),
        sa.Column("good_until", TIME, nullable=False),
        sa.Column("linked", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["size"], ["checkpoint.size"], name="fk_log_timestamp_size_checkpoint"),
        sa.PrimaryKeyConstraint("size", "number", name="pk_log_timestamp"),
    )
    op.create_index(
        "ix_log_timestamp_unlinked",
        "log_timestamp",
        ["size"],
        postgresql_where=sa.text("NOT linked"),
        sqlite_where=sa.text("NOT linked"),
    )


def downgrade() -> None:
    for table in ("log_timestamp", "log_key", "checkpoint", "log_tile"):
        op.drop_table(table)
