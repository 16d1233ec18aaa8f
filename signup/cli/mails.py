"""Commands for mails: what they say, whether they may, what they look like."""

from __future__ import annotations

import click

from signup.cli.common import BadInput, PlainGroup, plain_errors
from signup.core.db import Session, reading
from signup.core.values import utc_now
from signup.forms import actions as forms
from signup.mail import preview

mail = PlainGroup("mail", help="What the mails of a form say.")


def _sample(session: Session, slug: str) -> preview.Sample:
    view = forms.in_force(session, slug)
    return forms.sample_of(session, view.controller, view.slug, view.locale, view.definition)


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


COMMANDS = (mail,)
