"""Commands for mails: what they say, whether they may, what they look like."""

from __future__ import annotations

import click

from signup.cli.common import BadInput, PlainGroup, controller_named, plain_errors
from signup.core.db import Session, reading, transaction
from signup.core.values import LOCALES, EmailAddress, utc_now
from signup.forms import actions as forms
from signup.forms import mailing
from signup.mail import dkim, preview, signing
from signup.mail.models import NoticeEvery
from signup.subscriptions import notices

mail = PlainGroup("mail", help="What the mails of a form say.")


def _sample(session: Session, slug: str) -> preview.Sample:
    return mailing.sample(session, forms.in_force(session, slug))


@mail.command("lint")
@click.argument("form")
def lint(form: str) -> None:
    """Say what stands against the confirmation mail of FORM; exit 2 when anything does."""
    with plain_errors(), reading() as session:
        found = preview.problems(_sample(session, form), now=utc_now())
    for problem in found:
        click.echo(f"{problem.place}\t{problem.code}\t{problem.text}")
    if found:
        raise BadInput(f"{len(found)} problems: the mail must only ask.")
    click.echo("nothing stands against it")


@mail.command("preview")
@click.argument("form")
@click.option("--name", type=click.Choice(preview.KINDS), default="confirm", show_default=True)
@click.option("--as", "kind", type=click.Choice(["text", "html", "eml"]), default="text", show_default=True)
def show(form: str, name: str, kind: str) -> None:
    """Print a mail of FORM, with links that lead nowhere."""
    with plain_errors(), reading() as session:
        raw = preview.rendered(_sample(session, form), name, now=utc_now())
    click.echo(raw.decode("ascii") if kind == "eml" else preview.part(raw, kind), nl=False)


@mail.command("test")
@click.argument("form")
@click.argument("address")
@click.option("--name", type=click.Choice(preview.KINDS), default="confirm", show_default=True)
def send_test(form: str, address: str, name: str) -> None:
    """Send a mail of FORM to ADDRESS, with links that lead nowhere."""
    with plain_errors(), transaction() as session:
        view, to = forms.in_force(session, form), EmailAddress.parse(address)
        message_id = mailing.send_test(session, view, name, to, anybody=True, now=utc_now())
    click.echo(f"queued as {message_id}")


@mail.command("notice")
@click.argument("controller")
@click.option("--to", "address", default="", help="Whom to tell; the reply-to address if not given.")
@click.option(
    "--every", type=click.Choice([item.value for item in NoticeEvery]), help="How often; shows it if not given."
)
@click.option("--locale", type=click.Choice(LOCALES), default="de", show_default=True)
def notice(controller: str, address: str, every: str | None, locale: str) -> None:
    """Tell staff of CONTROLLER about new subscribers: each, in a weekly digest, or not at all."""
    with plain_errors(), transaction() as session:
        owner = controller_named(session, controller)
        if every is not None:
            to = EmailAddress.parse(address or owner.reply_to)
            notices.choose(session, owner.id, to, NoticeEvery(every), locale, now=utc_now())
        chosen = notices.chosen(session, owner.id)
    click.echo(f"{chosen.every.value}\t{chosen.address}\t{chosen.locale}" if chosen else "off")


@mail.command("dkim-key")
@click.argument("controller")
@click.option("--selector", default="", help="Name of the key in DNS, such as s2026; --stop needs none.")
@click.option("--algorithm", type=click.Choice(dkim.ALGORITHMS), default="rsa", show_default=True)
@click.option("--domain", default="", help="For a sender in another domain, which CONTROLLER is going to use.")
@click.option("--show", "shown", is_flag=True, help="Print the record of a key that is there.")
@click.option("--use", "used", is_flag=True, help="Sign with a key that is there and in DNS.")
@click.option("--stop", "stopped", is_flag=True, help="Sign with no key any more.")
def dkim_key(
    controller: str, selector: str, algorithm: str, domain: str, shown: bool, used: bool, stopped: bool
) -> None:
    """Make a signing key for CONTROLLER and print its DNS record; later, sign with it."""
    if shown + used + stopped > 1:
        raise BadInput("Say one of --show, --use and --stop.")
    if not selector and not stopped:
        raise BadInput("Missing option '--selector'.")
    now = utc_now()
    with plain_errors(), transaction() as session:
        owner = controller_named(session, controller)
        domain = EmailAddress.parse(f"x@{domain}").normalised.partition("@")[2] if domain else ""
        if used or stopped:
            signing.use(session, owner, selector if used else None, now=now)
            click.echo(f"mails of {owner.slug} are signed with {selector}" if used else "mails are not signed any more")
            return
        made = (
            signing.show(session, owner, selector, domain=domain)
            if shown
            else signing.make(session, owner, selector, algorithm, domain=domain, now=now)
        )
    click.echo(f"{made.name}. IN TXT " + " ".join(f'"{part}"' for part in dkim.record_strings(made.text)))
    click.echo("in use" if made.in_use else "not in use yet: once the record is in DNS, the same command with --use")


COMMANDS = (mail,)
