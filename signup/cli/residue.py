"""The command that answers "why did you write to me" when the address is long gone."""

from __future__ import annotations

import json
from pathlib import Path

import click

from signup.cli.common import PlainCommand, controller_named, plain_errors
from signup.core.db import transaction
from signup.core.values import OPERATOR, rfc3339, utc_now
from signup.evidence import residue
from signup.evidence.residue import Residue


@click.command("find", cls=PlainCommand)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
@click.option("--controller", "owner", help="Slug of the controller.")
def find(file: Path, owner: str | None) -> None:
    """Find the sign-up behind a disputed mail FILE (.eml), by its Message-ID or the token in its link.

    Exit status 1: the file has nothing of ours.
    """
    raw = file.read_bytes()
    with plain_errors(), transaction() as session:
        controller = controller_named(session, owner)
        found = residue.search(session, controller.id, raw, client=None, actor=OPERATOR, now=utc_now())
    if not found:
        click.echo(f"Nothing in {file.name} is of a mail of {controller.name}: no Message-ID and no link.", err=True)
        raise click.exceptions.Exit(1)
    for item in found:
        _show(item)


def _show(item: Residue) -> None:
    person = item.contact_id or "erased"
    for name, value in (
        ("matched by", " and ".join(item.matched)),
        ("person", person),
        ("mail", item.message_id),
        ("mail sha256", item.mail_sha256),
        ("mail state", item.mail_state),
        ("mail accepted", rfc3339(item.accepted_at) if item.accepted_at else None),
        ("form", f"{item.form}, version {item.form_version}, sha256 {item.form_sha256}" if item.form else None),
        ("asked", rfc3339(item.asked_at) if item.asked_at else None),
        ("outcome", item.outcome),
        ("closed", rfc3339(item.closed_at) if item.closed_at else None),
    ):
        if value is not None:
            click.echo(f"{name}: {value}")
    for trace in item.traces:
        seal = "not sealed yet"
        if trace.sealed_by is not None and trace.sealed_at is not None:
            seal = f"leaf {trace.leaf_index}, sealed {rfc3339(trace.sealed_at)} by checkpoint {trace.sealed_by}"
        click.echo(f"event: {rfc3339(trace.occurred_at)} {trace.type} ({trace.id}; {seal})")
        click.echo(f"  {json.dumps(trace.fields, ensure_ascii=False)}")
