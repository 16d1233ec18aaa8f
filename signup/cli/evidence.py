"""Commands about the proof of consents."""

from __future__ import annotations

import base64
import secrets
import sys
from functools import partial
from pathlib import Path

import click

from signup.cli.common import BadInput, PlainCommand, PlainGroup, controller_named, plain_errors, told
from signup.cli.residue import find
from signup.contacts import actions as contacts
from signup.core.config import KEY_BYTES
from signup.core.db import database, reading, transaction
from signup.core.errors import NotFound
from signup.core.values import LOCALES, OPERATOR, EmailAddress, utc_now
from signup.eventlog import audit, merkle, sealing
from signup.evidence import files, pdf


@click.group("evidence", cls=PlainGroup)
def evidence() -> None:
    """Seal the log, take out the proof of a consent."""


@evidence.command("seal", cls=PlainCommand)
def seal() -> None:
    """Seal what waits now, and print size and root of the log."""
    sealed = _seal_all()
    with reading() as session:
        last = sealing.newest(session)
        tree = merkle.Tree(sealing.reader(session), last.size if last else 0)
        root = base64.b64encode(tree.root()).decode()
    click.echo(f"sealed {sealed}, size {tree.size}, root {root}")


def _seal_all() -> int:
    """How many leaves are new; a log that another process is sealing has its places soon, too."""
    count = 0
    try:
        while (done := sealing.seal_now(utc_now)) is not None:
            count += done.count
            if done.count < sealing.BATCH:
                break
    except sealing.LogDamaged as damage:
        raise click.ClickException(f"The log is damaged, nothing was signed: {damage}.") from None
    return count


@evidence.command("verify", cls=PlainCommand)
@click.option("--since", default=0, metavar="SIZE", help="Only what came after the checkpoint over SIZE leaves.")
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A checkpoint that somebody else kept; the log must begin with it.",
)
def verify(since: int, against: Path | None) -> None:
    """Hash every event again and hold it against tiles, checkpoints and time stamps; exit 1 if something is wrong."""
    outside = against.read_text(encoding="utf-8", errors="replace") if against else None
    with reading() as session:
        last = sealing.newest(session)
    try:
        with told("verify", (last.size if last else 0) - since, "leaves") as tell:
            report = audit.audit(contacts.open_keys, since=since, against=outside, tell=partial(tell, "log"))
    except sealing.LogDamaged as missing:
        raise BadInput(f"{missing}; see the sizes in /.well-known/signup-evidence.json or take 0.") from None
    _print(report, outside)
    if report.wrong:
        click.echo(f"WRONG        {report.wrong}")
        sys.exit(1)
    click.echo("sound        nothing was changed since it was signed")


def _print(report: audit.Report, outside: str | None) -> None:
    """What was looked at, also when something was wrong further on."""
    tsa = database().config.evidence.tsa
    gone = f"{report.redacted} fields redacted, {report.unreadable} parts without a key"
    click.echo(f"events       {report.events} of {report.size - report.since}, {report.disclosures} fields, {gone}")
    click.echo(f"checkpoints  {report.checkpoints} signed by the log")
    known = f", {report.unpinned} whose certificate is not set" if report.unpinned else ""
    nobody = "" if tsa and tsa.url else "; SIGNUP_TSA_URL is not set, so nobody else vouches for times"
    click.echo(f"time stamps  {report.stamps} good{known}{nobody}")
    if outside is not None and not report.wrong:
        click.echo(f"against      the log begins with the {outside.splitlines()[1]} leaves of that checkpoint")


@evidence.command("key", cls=PlainCommand)
def key() -> None:
    """Make a new value for SIGNUP_EVIDENCE_KEY and print it, this once."""
    click.echo(base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode())


@evidence.command("new-name", cls=PlainCommand)
def new_name() -> None:
    """Go on under a new log name, after the database was put back to an earlier state by other means than restore."""
    with plain_errors(), transaction() as session:
        click.echo(sealing.rename(session, now=utc_now()))


@evidence.command("export", cls=PlainCommand)
@click.argument("email")
@click.option("--controller", "owner", help="Slug of the controller.")
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="New or empty folder for the files."
)
@click.option("--pdf", "printed", is_flag=True, help="Add evidence.pdf, for people, with everything attached.")
@click.option("--locale", type=click.Choice(LOCALES), help="Language of the PDF; by default the person's.")
def export(email: str, owner: str | None, out: Path, printed: bool, locale: str | None) -> None:
    """Write everything that proves a person's consents into a folder, sealed up to now."""
    with plain_errors():
        address = EmailAddress.parse(email)
        with reading() as session:
            controller = controller_named(session, owner)
            found = contacts.find(session, controller.id, address)
        if found is None:
            raise NotFound(f"{controller.name} holds no contact with this address.")
        _make(out)
        _seal_all()
        with transaction() as session:
            sheet = pdf.sheet_of(session, controller.id, found.id, locale, client=None, actor=OPERATOR, now=utc_now())
    made = sheet.bundle
    written = files.of_bundle(made) | ({"evidence.pdf": pdf.of_sheet(sheet)} if printed else {})
    for name, content in written.items():
        path = out / name
        path.touch(mode=0o600)
        path.write_bytes(content)
    click.echo(f"{len(made.events)} events, {len(written)} files in {out}")
    for item in made.left_out:
        click.echo(f"mail {item.sha256[:12]}: {_WHY[item.why]}")


_WHY = {
    "question-open": "left out, its question is still open",
    "link-acts": "the tokens of its links are blanked, they still act",
}


def _make(out: Path) -> None:
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        full = any(out.iterdir())
    except OSError as error:
        raise BadInput(f"{out} cannot be made: {error.strerror}.") from None
    if full:
        raise BadInput(f"{out} is not empty.")


evidence.add_command(find)

COMMANDS = (evidence,)
