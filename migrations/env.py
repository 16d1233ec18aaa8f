"""Runs the migrations on the application's own engine, one process at a time."""

import time

import click
from alembic import context
from flask import current_app
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from signup.core.db import Base, database

# Two machines that start together must not migrate together.
ADVISORY_LOCK = 0x5168
# Shorter than the second after which PostgreSQL ends one side of a deadlock: that could be a sign-up.
LOCK_TIMEOUT = "500ms"
TRIES = 60
PAUSE_SECONDS = 1.0
# lock_not_available, deadlock_detected
BUSY = ("55P03", "40P01")


def include_object(_object: object, name: str | None, kind: str, _reflected: bool, _compare_to: object) -> bool:
    return not (kind == "table" and name == "alembic_version")


def run() -> None:
    with database().engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            migrate(connection)
            return
        connection.execute(text(f"SELECT pg_advisory_lock({ADVISORY_LOCK})"))
        connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
        connection.commit()
        try:
            give_way(connection)
        finally:
            # The connection goes back to the pool: without its lock and its limit.
            connection.execute(text(f"SELECT pg_advisory_unlock({ADVISORY_LOCK})"))
            connection.execute(text("RESET lock_timeout"))
            connection.commit()


def give_way(connection: Connection) -> None:
    """A migration that finds its tables in use steps back and comes again; those that are done stay done."""
    for _ in range(TRIES):
        try:
            return migrate(connection)
        except OperationalError as error:
            connection.rollback()
            if getattr(error.orig, "sqlstate", None) not in BUSY:
                raise
        time.sleep(PAUSE_SECONDS)
    raise click.ClickException(
        f"Gave way {TRIES} times to others who use the tables. What is done stays; end long queries and run it again."
    )


def migrate(connection: Connection) -> None:
    options = current_app.extensions["migrate"].configure_args
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_object=include_object,
        compare_server_default=True,
        transaction_per_migration=True,
        **{**options, "render_as_batch": connection.dialect.name == "sqlite"},
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()


run()
