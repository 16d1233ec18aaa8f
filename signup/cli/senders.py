"""Commands about senders: what their DNS records say, and which lines would mend them."""

from __future__ import annotations

from collections.abc import Sequence

import click
from flask import current_app

from signup.cli.common import BadInput, PlainGroup, controller_named, plain_errors
from signup.core.config import Config
from signup.core.db import reading, transaction
from signup.core.nameservers import NameServers
from signup.core.values import EmailAddress, rfc3339, utc_now
from signup.mail import alignment, senders
from signup.mail.alignment import Finding, Verdict
from signup.purposes import actions as purposes

_SAID = {None: "never checked", True: "passed", False: "failed"}

sender = PlainGroup("sender", help="Whether mail servers believe our mails.")


@sender.command("check")
@click.argument("controller", required=False)
@click.option(
    "--sender", "address", default="", help="An address that CONTROLLER might use, instead of its present one."
)
def check(controller: str | None, address: str) -> None:
    """Look up SPF, DKIM and DMARC of the sender of CONTROLLER, and print what to put into its zone."""
    findings = looked_up(controller, address)
    for line in lines(findings):
        click.echo(line)
    wrong = sum(item.verdict is not Verdict.FOUND for item in findings)
    if wrong:
        raise BadInput(f"{wrong} of {len(findings)} records are not right yet.")


@sender.command("list")
def list_senders() -> None:
    """List each controller's sender with what the last check said."""
    config: Config = current_app.extensions["signup.config"]
    with plain_errors(), reading() as session:
        known = [(owner.slug, senders.standing(session, owner)) for owner in purposes.list_controllers(session)]
    for slug, item in known:
        when = f"\t{rfc3339(item.checked_at)}" if item.checked_at else ""
        click.echo(f"{slug}\t{item.sender}\t{_SAID[item.passed]}{when}")
    click.echo(f"a check is {'required before a form is published' if config.sending.required else 'not required'}")


def check_all(*, dns: bool) -> None:
    """Every controller's sender is shown; looked up when asked, and wrong when a record is.

    Raises:
        BadInput: a record that was looked up is not right, or a check that is required has not passed.
    """
    config: Config = current_app.extensions["signup.config"]
    with reading() as session:
        owners = purposes.list_controllers(session)
    for owner in owners if dns else ():
        for line in lines(looked_up(owner.slug)):
            click.echo(f"{owner.slug:<19}{line}")
    with reading() as session:
        known = [senders.standing(session, owner) for owner in owners]
    for item in known:
        click.echo(f"sender             {item.sender} {_SAID[item.passed]}")
    bad = [item.sender for item in known if not item.passed]
    if bad and (dns or config.sending.required):
        raise BadInput(f"The DNS records of {', '.join(bad)} are not right: flask sender check says which.")


def looked_up(controller: str | None, address: str = "") -> list[Finding]:
    """What the records of this sender say now; it is on record."""
    config: Config = current_app.extensions["signup.config"]
    with plain_errors(), reading() as session:
        owner = controller_named(session, controller, how="flask sender check CONTROLLER")
        wanted = EmailAddress.parse(address).normalised if address else owner.sender
        shown = senders.presented(session, owner, wanted)
    findings = alignment.check(shown, NameServers(config.sending.dns_servers))
    with plain_errors(), transaction() as session:
        senders.remember(session, owner, wanted, findings, now=utc_now())
    return findings


def lines(findings: Sequence[Finding]) -> list[str]:
    """One line for each record, and one more for what to put into the zone."""
    found = []
    for item in findings:
        found.append(f"{item.record}\t{item.verdict.value}\t{item.name}\t{item.text}")
        if item.line and item.verdict is not Verdict.FOUND:
            found.append(f"\tput into the zone:\t{item.line}")
    return found


COMMANDS = (sender,)
