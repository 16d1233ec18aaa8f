"""Commands that take data out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from signup.cli.common import BadInput, PlainCommand, controller_named, plain_errors
from signup.core.db import database, reading
from signup.core.values import OPERATOR, utc_now
from signup.subscriptions import listing
from signup.subscriptions.listing import STATUSES
from signup.transfer import exporting
from signup.transfer.exporting import MEDIA, Order

# Off a terminal a line this often says that it still works.
TELL_EVERY_ROWS = 100_000


@click.command("export", cls=PlainCommand)
@click.option("--controller", "owner", help="Slug of the controller.")
@click.option("--format", "form", type=click.Choice(list(MEDIA)), default="csv", show_default=True)
@click.option("--status", type=click.Choice(list(STATUSES)), help="Only subscriptions in this state.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write; standard output if not given."
)
def export(owner: str | None, form: str, status: str | None, output: Path | None) -> None:
    """Export all subscriptions of a controller."""
    with plain_errors(), reading() as session:
        controller = controller_named(session, owner)
        total = listing.count(session, controller.id, status=STATUSES[status] if status else None)
    order = Order(controller.id, OPERATOR, form, status)
    with _target(output) as file:
        for chunk in _told(exporting.stream(database(), order, clock=utc_now), total, titles=form == "csv"):
            file.write(chunk)


@contextmanager
def _target(output: Path | None) -> Iterator[BinaryIO]:
    """Where the bytes go. A file appears whole or not at all, readable by its owner only."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    partial = output.with_name(output.name + ".part")
    try:
        file = partial.open("xb")
    except OSError as error:
        raise BadInput(f"{partial} cannot be written: {error.strerror}.") from None
    try:
        with file:
            partial.chmod(0o600)
            yield file
        partial.replace(output)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _told(chunks: Iterator[bytes], total: int, *, titles: bool) -> Iterator[bytes]:
    """The chunks, with a bar on a terminal and plain lines elsewhere, both on standard error.

    Args:
        titles: whether the first line is no row, but names the columns.
    """
    if sys.stderr.isatty():
        with click.progressbar(length=total, label="Export", file=sys.stderr) as bar:
            for chunk in chunks:
                bar.update(chunk.count(b"\n"))
                yield chunk
        return
    rows, said = -int(titles), 0
    for chunk in chunks:
        yield chunk
        rows += chunk.count(b"\n")
        if rows - said >= TELL_EVERY_ROWS:
            said = rows
            click.echo(f"export: {rows} of about {total} rows", err=True)
    click.echo(f"export: done, {rows} row{'' if rows == 1 else 's'}", err=True)


COMMANDS = (export,)
