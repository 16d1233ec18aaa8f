"""Commands against abuse: mails that wait after an attack, and signed sources for a fair or a poster."""

from __future__ import annotations

from collections.abc import Callable

import click
from flask import current_app

from signup.abuse import sources, switches
from signup.cli.common import BadInput, PlainCommand, PlainGroup, controller_named, plain_errors
from signup.core.config import Config
from signup.core.db import reading, transaction
from signup.core.values import rfc3339, utc_now
from signup.forms import actions as forms
from signup.subscriptions import attacks, quarantine

abuse = PlainGroup("abuse", help="Mails that are held because their form was flooded.")


@abuse.command("list")
def list_attacked() -> None:
    """List the forms that are under attack, or whose mails wait after one."""
    with plain_errors(), reading() as session:
        found = attacks.to_look_at(session)
    for item in found:
        since = f"under attack since {rfc3339(item.since)}" if item.since else "over"
        click.echo(f"{item.slug}\t{since}\t{item.held} mails wait")


@abuse.command("release")
@click.argument("form")
def release(form: str) -> None:
    """Send the held mails of FORM, to each person the newest."""
    _settle(form, quarantine.release, "released")


@abuse.command("discard")
@click.argument("form")
def discard(form: str) -> None:
    """Never send the held mails of FORM."""
    _settle(form, quarantine.discard, "discarded")


def _settle(form: str, act: Callable[..., int], done: str) -> None:
    with plain_errors(), transaction() as session:
        count = act(session, forms.in_force(session, form), now=utc_now())
    click.echo(f"{count} {done}")


@abuse.command("disposable")
@click.option("--controller", "owner", help="Slug of the controller.")
@click.option("--refuse/--flag", required=True, help="Refuse such addresses, or only flag them.")
def disposable(owner: str | None, refuse: bool) -> None:
    """Say what happens to addresses that are thrown away after use."""
    with plain_errors(), transaction() as session:
        switches.set_refuse_disposable(session, controller_named(session, owner).id, refuse)


@click.command("source", cls=PlainCommand)
@click.argument("form")
@click.argument("name")
def source(form: str, name: str) -> None:
    """Print the link to FORM for one event or poster, NAME: a crowd behind it is not taken for a flood."""
    if not sources.NAME.fullmatch(name):
        raise BadInput("A source is named by small letters, digits and hyphens, 40 at most.")
    config: Config = current_app.extensions["signup.config"]
    with plain_errors(), reading() as session:
        view = forms.in_force(session, form)
        signed = sources.mint(session.keys, view.id, name)
    click.echo(f"{config.public_url}/f/{view.slug}?{sources.FIELD}={signed}")


COMMANDS = (abuse,)
