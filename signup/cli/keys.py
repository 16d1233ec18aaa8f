"""Commands for API keys."""

from __future__ import annotations

import click

from signup.cli.common import PlainGroup, controller_named, plain_errors
from signup.core.db import reading, transaction
from signup.core.values import utc_now
from signup.staff import access

api_key = PlainGroup("api-key", help="Keys for programs.")


@api_key.command("create")
@click.argument("name")
@click.option("--controller", "owner", help="Slug of the controller.")
@click.option("--scope", "scopes", multiple=True, help="What the key may do; repeat for more. All if not given.")
def create(name: str, owner: str | None, scopes: tuple[str, ...]) -> None:
    """Create a key for the program NAME and print it, this once."""
    with plain_errors(), transaction() as session:
        controller = controller_named(session, owner)
        made = access.create_key(session, controller.id, name, scopes or tuple(access.SCOPES), now=utc_now())
    click.echo(made.secret)


@api_key.command("list")
@click.option("--controller", "owner", help="Slug of the controller.")
def list_keys(owner: str | None) -> None:
    """List the keys of a controller; what they are is not stored."""
    with plain_errors(), reading() as session:
        for key in access.list_keys(session, controller_named(session, owner).id):
            state = "revoked" if key.revoked_at else "works"
            click.echo(f"{key.id}\t{key.name}\t{state}\t{' '.join(key.scopes)}")


@api_key.command("revoke")
@click.argument("key_id")
@click.option("--controller", "owner", help="Slug of the controller.")
def revoke(key_id: str, owner: str | None) -> None:
    """Make the key KEY_ID useless."""
    with plain_errors(), transaction() as session:
        controller_id = controller_named(session, owner).id if owner else access.owner_of(session, key_id)
        access.revoke(session, controller_id, key_id, now=utc_now())


COMMANDS = (api_key,)
