"""Runs the migrations on the application's own engine, one process at a time."""

from alembic import context
from flask import current_app
from sqlalchemy import text

from signup.core.db import Base, database

# Two machines that start together must not migrate together.
ADVISORY_LOCK = 0x5168
# A migration that cannot get its lock gives way to the sign-ups instead of queueing before them.
LOCK_TIMEOUT = "5s"


def include_object(_object: object, name: str | None, kind: str, _reflected: bool, _compare_to: object) -> bool:
    return not (kind == "table" and name == "alembic_version")


def run() -> None:
    engine = database().engine
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_lock({ADVISORY_LOCK})"))
            connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
            connection.commit()
        options = current_app.extensions["migrate"].configure_args
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            include_object=include_object,
            compare_server_default=True,
            **{**options, "render_as_batch": connection.dialect.name == "sqlite"},
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_unlock({ADVISORY_LOCK})"))
            connection.execute(text("RESET lock_timeout"))
            connection.commit()


run()
