"""Legal holds, and how far the log has been gone through."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

# Sortable text on SQLite, which has no times of its own.
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "hold",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("contact_id", sa.String(length=40), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("placed_by", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("released_by", sa.Text(), nullable=True),
        sa.Column("released_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["controller_id"], ["controller.id"], name="fk_hold_controller_id_controller"),
        sa.ForeignKeyConstraint(["contact_id"], ["contact.id"], name="fk_hold_contact_id_contact"),
        sa.PrimaryKeyConstraint("id", name="pk_hold"),
    )
    op.create_index(
        "ix_hold_standing",
        "hold",
        ["contact_id"],
        postgresql_where=sa.text("released_at IS NULL"),
        sqlite_where=sa.text("released_at IS NULL"),
    )
    op.create_index("ix_hold_contact", "hold", ["contact_id"])
    op.create_index("ix_hold_list", "hold", ["controller_id", "id"])
    op.create_table(
        "log_mark",
        sa.Column("name", sa.String(length=20), nullable=False),
        sa.Column("event_id", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_log_mark"),
    )


def downgrade() -> None:
    op.drop_table("log_mark")
    op.drop_table("hold")
