"""Commands for legal holds."""

from __future__ import annotations

import click

from signup.cli.common import BadInput, PlainCommand, PlainGroup, controller_named, plain_errors
from signup.contacts import actions as contacts
from signup.core.db import Session, reading, transaction
from signup.core.values import OPERATOR, EmailAddress, rfc3339, utc_now
from signup.privacy import holds

hold_group = PlainGroup("hold", help="Persons of whom nothing may be purged, because of a claim.")
_owner = click.option("--controller", "owner", help="Slug of the controller.")


@hold_group.command("create", cls=PlainCommand)
@click.argument("who", metavar="EMAIL_OR_ID")
@click.option("--reason", required=True, help="Such as the file number of the case.")
@_owner
def create_hold(who: str, reason: str, owner: str | None) -> None:
    """Keep everything about a person until the hold is released."""
    with plain_errors(), transaction() as session:
        controller_id = controller_named(session, owner).id
        contact_id = _contact(session, controller_id, who)
        ident = holds.place(session, controller_id, contact_id, reason, actor=OPERATOR, now=utc_now())
    click.echo(ident)


@hold_group.command("list", cls=PlainCommand)
@click.option("--all", "every", is_flag=True, help="Released ones too.")
@_owner
def list_holds(every: bool, owner: str | None) -> None:
    """List holds: id, contact, since when, by whom, until when, reason."""
    with plain_errors(), reading() as session:
        found = holds.listing(session, controller_named(session, owner).id, released=every)
    for hold in found:
        until = rfc3339(hold.released_at) if hold.released_at else "stands"
        click.echo("\t".join([hold.id, hold.contact_id, rfc3339(hold.created_at), hold.placed_by, until, hold.reason]))


@hold_group.command("release", cls=PlainCommand)
@click.argument("ident", metavar="ID")
@click.option("--reason", required=True, help="Why it is over.")
@_owner
def release_hold(ident: str, reason: str, owner: str | None) -> None:
    """Let the rules of retention have their way again."""
    with plain_errors(), transaction() as session:
        controller_id = controller_named(session, owner).id
        stood = holds.release(session, controller_id, ident, reason, actor=OPERATOR, now=utc_now())
    click.echo("released" if stood else "had been released before")


def _contact(session: Session, controller_id: str, who: str) -> str:
    if "@" not in who:
        return contacts.get(session, controller_id, who).id
    found = contacts.find(session, controller_id, EmailAddress.parse(who))
    if found is None:
        raise BadInput("There is no contact with this address.")
    return found.id


COMMANDS = (hold_group,)
