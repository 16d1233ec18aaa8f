"""Commands that make and restore backups, and the one that changes the key of all keys."""

from __future__ import annotations

from pathlib import Path

import click

from signup.backup import restoring, rewrapping, rules, saving
from signup.backup.archive import Reader
from signup.backup.restoring import Outcome
from signup.backup.rules import Kind
from signup.backup.saving import Job, Tell
from signup.cli.common import BadInput, PlainCommand, PlainGroup, plain_errors, told
from signup.core.db import database, scrub
from signup.core.values import utc_now

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("backup", cls=PlainCommand)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--keys-only", is_flag=True, help="Only the small file with the keys, erasures and endings.")
def backup(folder: Path, keys_only: bool) -> None:
    """Save the database as it is now into FOLDER, while everything goes on running. Prints each file."""
    kinds = (Kind.KEYS,) if keys_only else (Kind.DATA, Kind.KEYS)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with plain_errors(), told("backup", saving.expected(kinds)) as tell:
            saved = saving.save(_job(tell), folder, kinds, now=utc_now())
    except OSError as error:
        raise BadInput(f"{folder} cannot be written: {error.strerror}.") from None
    for file in saved:
        click.echo(f"{file.path}\t{file.rows} rows\t{file.bytes} bytes")


@click.command("restore", cls=PlainCommand)
@click.argument("data", type=_FILE, required=False)
@click.option("--keys", "keys", type=_FILE, required=True, help="The newest keys file there is.")
def restore(data: Path | None, keys: Path) -> None:
    """Restore the backup DATA into an empty database; who was erased or left since then stays so.

    Without DATA, the same is seen to in a database that was brought back by other means.
    """
    with plain_errors(), Reader(keys) as held:
        outcome = _restored(data, held) if data else restoring.replay(_job(_quiet), held, now=utc_now())
    for warning in outcome.warnings:
        click.echo(f"warning: {warning}", err=True)
    for name, count in outcome.rows.items():
        click.echo(f"{name}\t{count}")
    for name, count in outcome.settled.counts.items():
        click.echo(f"again {name}\t{count}")
    click.echo(f"the evidence log goes on as {outcome.log_name}", err=True)
    if outcome.settled.key_lost:
        click.echo("warning: those of key_lost had no key and no erasure on record; they were forgotten too", err=True)
    scrub()


def _restored(data: Path, held: Reader) -> Outcome:
    with Reader(data) as rows:
        rules.check_kind(held.manifest, Kind.KEYS, newest_revision=held.manifest.revision)
        total = sum(part.rows for part in rows.manifest.parts) + held.part("data_key").rows
        with told("restore", total) as tell:
            return restoring.restore(_job(tell), rows, held, now=utc_now())


def _quiet(_part: str, _rows: int) -> None:
    """A replay is short."""


data_key = PlainGroup("data-key", help="The key that wraps each person's key.")


@data_key.command("rewrap")
def rewrap() -> None:
    """Wrap every person's key with SIGNUP_DATA_KEY, while everything goes on running."""
    with plain_errors():
        for name, count in rewrapping.rewrap(utc_now).items():
            click.echo(f"{name}\t{count}")
    scrub()


def _job(tell: Tell) -> Job:
    held = database()
    return Job(held.config, held.keys, tell)


COMMANDS = (backup, restore, data_key)
