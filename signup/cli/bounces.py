"""Commands for what comes back by mail."""

from __future__ import annotations

import mailbox
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click
from flask import current_app

from signup.cli.common import BadInput, PlainGroup, plain_errors
from signup.core.db import reading, transaction
from signup.core.errors import Busy
from signup.core.values import rfc3339, utc_now
from signup.intake import actions, notices, send
from signup.intake.kinds import Way
from signup.intake.serving import take_mail

# sysexits.h: a mail server that pipes to us keeps the mail and tries again.
EX_TEMPFAIL = 75

UNKNOWN = "about no mail of ours"

bounces_group = PlainGroup("bounces", help="Bounces, complaints and mails that unsubscribe.")


@bounces_group.command("read")
@click.argument("path", required=False, default="-")
@click.option("--recipient", "recipients", multiple=True, help="Address that the mail came to, if its headers lack it.")
def read(path: str, recipients: tuple[str, ...]) -> None:
    """Take the mails of PATH: one mail, an mbox file, a Maildir, or - for standard input.

    What was taken before is known again. Mails of a Maildir are marked as seen.
    """
    count = 0
    try:
        for raw, done in _mails(path):
            taken = take_mail(Way.FILE, raw, list(recipients), now=utc_now())
            done()
            count += 1
            click.echo(f"{taken.id}\t{taken.kind.value}\t{taken.outcome.value}{' again' if taken.repeated else ''}")
    except Busy as error:
        click.echo(f"Error: {error.message} {count} mails were taken.", err=True)
        sys.exit(EX_TEMPFAIL)
    click.echo(f"{count} taken")


def _nothing() -> None:
    """A file stays as it is."""


def _mails(path: str) -> Iterator[tuple[bytes, Callable[[], None]]]:
    """Each mail with what to do once it is taken."""
    if path == "-":
        yield from ((raw, _nothing) for raw in _split(sys.stdin.buffer.read()))
        return
    place = Path(path)
    if (place / "new").is_dir() and (place / "cur").is_dir():
        yield from _of_maildir(place)
    elif place.is_file():
        yield from ((raw, _nothing) for raw in _split(place.read_bytes()))
    else:
        raise BadInput(f"{path} is neither a file nor a Maildir.")


def _split(content: bytes) -> Iterator[bytes]:
    """One mail, or those of an mbox."""
    if not content.startswith(b"From "):
        yield content
        return
    mail: list[bytes] = []
    after_blank = True
    for line in content.splitlines(keepends=True):
        if after_blank and line.startswith(b"From "):
            if mail:
                yield b"".join(mail)
            mail = []
        else:
            # Undo what writers of mbox files do to lines that look like a beginning.
            quoted = line.lstrip(b">").startswith(b"From ") and line.startswith(b">")
            mail.append(line[1:] if quoted else line)
        after_blank = not line.strip()
    if mail:
        yield b"".join(mail)


def _of_maildir(place: Path) -> Iterator[tuple[bytes, Callable[[], None]]]:
    box = mailbox.Maildir(place, create=False)
    for key in sorted(box.keys()):
        if "S" in box.get_message(key).get_flags():
            continue
        yield box.get_bytes(key), partial(_mark_seen, box, key)


def _mark_seen(box: mailbox.Maildir, key: str) -> None:
    seen = box.get_message(key)
    seen.set_subdir("cur")
    seen.add_flag("S")
    box[key] = seen


@bounces_group.command("list")
def list_reports() -> None:
    """List what could not be used, with the reason."""
    with plain_errors(), reading() as session:
        for item in actions.waiting(session):
            when = rfc3339(item.received_at)
            click.echo(f"{item.id}\t{when}\t{item.way.value}\t{item.kind.value}\t{item.reason or UNKNOWN}")


@bounces_group.command("show")
@click.argument("ident", metavar="ID")
def show(ident: str) -> None:
    """Print what is kept of the report ID as it came; it may name people."""
    with plain_errors(), reading() as session:
        raw = actions.raw_of(session, ident)
    click.echo(raw, nl=False)


@bounces_group.command("drop")
@click.argument("ident", metavar="ID", required=False)
@click.option("--all", "every", is_flag=True, help="All of them.")
def drop(ident: str | None, every: bool) -> None:
    """Forget the bytes of the report ID, so that no alarm speaks of it any more."""
    if bool(ident) == every:
        raise BadInput("Say which report by its id, or --all.")
    with plain_errors(), transaction() as session:
        count = actions.drop(session, ident)
    if ident and not count:
        raise BadInput(f"No report {ident} waits.")
    click.echo(f"{count} dropped")


@bounces_group.command("confirm")
@click.argument("ident", metavar="ID")
def confirm(ident: str) -> None:
    """Let the SNS topic of the request ID send notices."""
    with plain_errors():
        with reading() as session:
            url = notices.confirmation_url(session, ident)
        send.confirm(current_app.extensions["signup.config"], url)
        with transaction() as session:
            actions.drop(session, ident)
    click.echo("confirmed")


COMMANDS = (bounces_group,)
