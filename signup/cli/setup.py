"""Commands that set up: migrations, controllers, forms, the demo."""

from __future__ import annotations

from typing import Any, BinaryIO

import click
from flask import current_app
from sqlalchemy.exc import OperationalError

from signup import demo
from signup.cli import abuse, capacity
from signup.cli import senders as cli_senders
from signup.cli.common import BadInput, PlainCommand, PlainGroup, controller_named, form_owner, plain_errors
from signup.core import evidence, intake
from signup.core.config import SETTINGS, Config
from signup.core.db import Session, reading, transaction
from signup.core.values import LOCALES, OPERATOR, EmailAddress, rfc3339, utc_now
from signup.forms import actions as forms
from signup.forms import embedding, files, publishing
from signup.forms.embedding import Kind
from signup.forms.files import FormFile
from signup.forms.rules import TONES
from signup.mail import senders
from signup.purposes import actions as purposes
from signup.purposes import branding
from signup.purposes.actions import NewController
from signup.reports import queries
from signup.staff import access
from signup.subscriptions import versions


def upgrade() -> None:
    """The database is at the newest migration; asking whether it is costs one query."""
    with reading() as session:
        if queries.current_migration(session) == queries.newest_migration():
            return
    from flask_migrate import upgrade as migrate

    migrate()


def seed_demo() -> str | None:
    """On an empty database the demo exists afterwards.

    Returns:
        The demo's API key with all scopes, shown this once; None when there was something already.
    """
    now = utc_now()
    with transaction() as session:
        if purposes.list_controllers(session):
            return None
        controller = demo.seed(session, now=now)
        made = access.create_key(session, controller.id, "demo", list(access.SCOPES), now=now)
        return made.secret


def demo_forms() -> list[str]:
    """The slugs of the forms of the demo controller, in the order of the alphabet."""
    with reading() as session:
        every = [item for item in purposes.list_controllers(session) if item.slug == demo.CONTROLLER.slug]
        return [view.slug for view in forms.listed(session, every[0].id)] if every else []


controller = PlainGroup("controller", help="Controllers: the tenants responsible for the data.")
form = PlainGroup("form", help="Sign-up forms.")
form.add_command(abuse.source)


@controller.command("create")
@click.argument("slug")
@click.option("--name", required=True, help="Full legal name.")
@click.option("--address", required=True, help="Postal address on one line.")
@click.option("--sender", required=True, help="From address of mails.")
@click.option("--reply-to", default="", help="Where answers go; the sender if not given.")
@click.option("--imprint", required=True, help="URL of the imprint.")
@click.option("--privacy", required=True, help="URL of the privacy notice.")
@click.option("--accent", default="#0b5d6b", show_default=True, help="Colour of buttons.")
def create_controller(
    slug: str, name: str, address: str, sender: str, reply_to: str, imprint: str, privacy: str, accent: str
) -> None:
    """Create the controller SLUG."""
    new = NewController(
        slug=slug,
        name=name,
        address=address,
        sender=sender,
        reply_to=reply_to,
        imprint_url=imprint,
        privacy_url=privacy,
        accent=accent,
    )
    with plain_errors(), transaction() as session:
        made = purposes.create_controller(session, new, now=utc_now())
    click.echo(f"{made.id} {made.slug}")


@controller.command("set")
@click.argument("slug")
@click.option("--name", help="Full legal name.")
@click.option("--address", help="Postal address on one line.")
@click.option("--sender", help="From address of mails.")
@click.option("--reply-to", help="Where answers go.")
@click.option("--imprint", "imprint_url", help="URL of the imprint.")
@click.option("--privacy", "privacy_url", help="URL of the privacy notice.")
@click.option("--accent", help="Colour of buttons, such as #0b5d6b; pages darken or brighten it until it can be read.")
@click.option("--logo", type=click.File("rb"), help="PNG or SVG file that pages show.")
@click.option("--no-logo", is_flag=True, help="Show no picture any more.")
@click.option("--mail-logo", type=click.File("rb"), help="PNG file that each mail carries.")
@click.option("--no-mail-logo", is_flag=True, help="Let mails carry no picture any more.")
def set_controller(slug: str, **changes: Any) -> None:
    """Change what pages and mails say of the controller SLUG."""
    pictures = {name: changes.pop(name) for name in ("logo", "no_logo", "mail_logo", "no_mail_logo")}
    given: dict[str, str] = {name: value for name, value in changes.items() if value is not None}
    with plain_errors(), transaction() as session:
        owned = purposes.find_controller(session, slug)
        if "sender" in given:
            sender = EmailAddress.parse(given["sender"]).normalised
            senders.refuse_unchecked(session, owned, sender, now=utc_now())
        purposes.change_controller(session, owned.id, given)
        _set_pictures(session, owned.id, **pictures)
    if pictures["mail_logo"] is not None:
        click.echo(_MAIL_LOGO_WARNING, err=True)
    click.echo(slug)


_MAIL_LOGO_WARNING = (
    "Warning: a picture makes a confirmation mail heavier, more like an advertisement, and more likely to be taken for "
    "spam. Many mail programs show it only when asked to."
)


def _set_pictures(
    session: Session,
    controller_id: str,
    *,
    logo: BinaryIO | None,
    no_logo: bool,
    mail_logo: BinaryIO | None,
    no_mail_logo: bool,
) -> None:
    if no_logo:
        branding.remove_logo(session, controller_id)
    elif logo is not None:
        branding.set_logo(session, controller_id, logo.read(branding.MAX_BYTES + 1), now=utc_now())
    if no_mail_logo:
        branding.remove_mail_logo(session, controller_id)
    elif mail_logo is not None:
        content = mail_logo.read(branding.MAX_MAIL_BYTES + 1)
        branding.set_mail_logo(session, controller_id, content, now=utc_now())


@form.command("create")
@click.argument("slug", required=False)
@click.option("--from", "file", type=click.File("rb"), help="JSON file that describes the whole form.")
@click.option("--draft", is_flag=True, help="With --from: do not publish yet.")
@click.option("--controller", "owner", help="Slug of the controller.")
@click.option("--locale", type=click.Choice(LOCALES), default="de", show_default=True)
@click.option("--tone", type=click.Choice(TONES), default=TONES[0], show_default=True, help="In German Sie or du.")
@click.option("--title")
@click.option("--intro", default="")
@click.option("--purpose", "slugs", multiple=True, help="Slug of a purpose; repeat for more.")
@click.option("--text", "texts", multiple=True, help="SLUG=consent sentence, for a purpose that is new.")
@click.option("--origin", "origins", multiple=True, help="Site that may embed the form; none means every site.")
def create_form(slug: str | None, owner: str | None, file: BinaryIO | None, draft: bool, **said: Any) -> None:
    """Create and publish the form SLUG, or the one that a file describes."""
    if file is not None:
        _create_from(slug, owner, file, draft=draft)
        return
    if slug is None or not said["title"] or not said["slugs"]:
        raise BadInput("Missing SLUG, --title or --purpose: give them, or a file with --from.")
    _create_by_options(slug, owner, **said)


def _create_from(slug: str | None, owner: str | None, file: BinaryIO, *, draft: bool) -> None:
    now = utc_now()
    with plain_errors(), transaction() as session:
        owned = controller_named(session, owner)
        told = files.read(file.read())
        if slug not in (None, told.slug):
            raise BadInput(f"The file is about {told.slug!r}, not {slug!r}.")
        publishing.create(session, owned, told, now=now)
        if not draft:
            publishing.publish(session, owned, told.slug, actor=OPERATOR, now=now)
    click.echo(f"{told.slug} is a draft: flask form publish {told.slug}" if draft else _url(told.slug))


def _create_by_options(
    slug: str,
    owner: str | None,
    *,
    slugs: tuple[str, ...],
    texts: tuple[str, ...],
    origins: tuple[str, ...],
    **words: Any,
) -> None:
    now, locale = utc_now(), words["locale"]
    sentences = dict(text.partition("=")[::2] for text in texts)
    with plain_errors(), transaction() as session:
        owned = controller_named(session, owner)
        senders.refuse_unchecked(session, owned, now=now)
        known = purposes.named(session, owned.id, slugs)
        for name in slugs:
            if name not in known and name in sentences:
                label = {locale: name.replace("-", " ").capitalize()}
                text = {locale: sentences[name]}
                purposes.create_purpose(session, owned.id, name, label=label, hint={}, text=text, now=now)
            elif name not in known:
                raise BadInput(f"There is no purpose {name!r}: give its consent sentence with --text {name}=…")
        file = FormFile(slug, purposes=list(slugs), allowed_origins=list(origins), **words)
        demo.publish_form(session, owned, files.form_of(file), now=now)
    click.echo(f"{_url(slug)}")


@form.command("list")
@click.option("--controller", "owner", help="Slug of the controller.")
def list_forms(owner: str | None) -> None:
    """List the forms of a controller."""
    with plain_errors(), reading() as session:
        for item in publishing.standings(session, controller_named(session, owner).id):
            version = f"version {item.live_version}" if item.live_version else "not published"
            state = ("closed" if item.closed else "open") + (", draft" if item.has_draft else "")
            click.echo(f"{item.slug}\t{version}\t{state}\t{_url(item.slug)}")


@form.command("set")
@click.argument("slug")
@click.option("--controller", "owner", help="Slug of the controller.")
@click.option("--from", "file", type=click.File("rb"), required=True, help="JSON file that describes the whole form.")
def set_form(slug: str, owner: str | None, file: BinaryIO) -> None:
    """Give the form SLUG a new draft; what is published stays in force."""
    with plain_errors(), transaction() as session:
        publishing.set_draft(session, form_owner(session, owner, slug), slug, files.read(file.read()))
    click.echo(f"{slug} has a draft: flask form publish {slug}")


@form.command("publish")
@click.argument("slug")
@click.option("--controller", "owner", help="Slug of the controller.")
def publish_form(slug: str, owner: str | None) -> None:
    """Put the draft of the form SLUG in force; without one, its texts as they are now.

    What says the same as the version in force makes no new one: pasted copies stay current.
    """
    with plain_errors(), transaction() as session:
        done = publishing.publish(session, form_owner(session, owner, slug), slug, actor=OPERATOR, now=utc_now())
    told = "" if done.is_new else " (it says the same: no new version)"
    click.echo(f"{slug} version {done.version} {_url(slug)}{told}")


@form.command("show")
@click.argument("slug")
@click.option("--controller", "owner", help="Slug of the controller.")
@click.option("--as", "kind", type=click.Choice(["text", "json"]), default="text", show_default=True)
def show_form(slug: str, owner: str | None, kind: str) -> None:
    """Show the form SLUG with its purposes and their wording, or as a file for --from, the draft if there is one."""
    if kind == "json":
        with plain_errors(), reading() as session:
            file = publishing.described(session, form_owner(session, owner, slug), slug)
        click.echo(files.write(file))
        return
    with plain_errors(), reading() as session:
        view = forms.in_force(session, slug)
    click.echo(
        f"{view.slug}: {view.definition['title']} (version {view.version}, {view.locale}, {view.controller.name})"
    )
    for item in view.purposes:
        click.echo(f"- {item['slug']}: {item['text']}\n  sha256 {item['text_sha256']}")
    for item in view.fields:
        click.echo(f"field {item['name']}: {item['label']} ({item['type']}{', required' if item['required'] else ''})")
    click.echo(f"origins {' '.join(view.allowed_origins) or 'every site'}")
    click.echo(f"confirmed by {'the typed code only' if view.strict else 'link or code'}")
    if view.closed:
        click.echo("closed")


@form.command("embed")
@click.argument("slug")
@click.option("--as", "kind", type=click.Choice(embedding.KINDS), default="html", show_default=True)
@click.option("--source", default="", help="Which poster, hall or card a hosted link or QR code stands on.")
def embed_form(slug: str, kind: Kind, source: str) -> None:
    """Print what to paste into a page for the form SLUG, and what the page's security policy must allow."""
    with plain_errors(), reading() as session:
        view = forms.in_force(session, slug)
        made = embedding.embed(view, kind, session.config.public_url, source=source)
    click.echo(f"<!-- Content-Security-Policy of the page: {'; '.join(made.csp) or 'nothing to add'} -->")
    click.echo(made.html, nl=False)


@form.command("outdated")
@click.option("--controller", "owner", help="Slug of the controller.")
@click.option("--days", type=click.IntRange(1, 400), default=versions.DAYS, show_default=True)
def outdated_forms(owner: str | None, days: int) -> None:
    """List older versions of forms by which people still sign up: their copies should be pasted anew."""
    with plain_errors(), reading() as session:
        found = versions.seen(session, controller_named(session, owner).id, days=days, now=utc_now())
    for item in found:
        if item.outdated:
            click.echo(
                f"{item.slug}\tversion {item.version} of {item.live_version}\t"
                f"{item.requests} requests\tlast {rfc3339(item.last_at)}"
            )


@form.command("close")
@click.argument("slug")
@click.option("--controller", "owner", help="Slug of the controller.")
@click.option("--reopen", is_flag=True, help="Take sign-ups again.")
def close_form(slug: str, owner: str | None, reopen: bool) -> None:
    """Stop taking sign-ups on the form SLUG."""
    with plain_errors(), transaction() as session:
        forms.set_closed(session, form_owner(session, owner, slug).id, slug, not reopen)


def _url(slug: str) -> str:
    config: Config = current_app.extensions["signup.config"]
    return f"{config.public_url}/f/{slug}"


@click.command("check-config", cls=PlainCommand)
@click.option("--dns", is_flag=True, help="Look up the DNS records of every controller's sender too.")
def check_config(dns: bool) -> None:
    """Print every setting, secrets masked, and whether database and migrations are in order."""
    config: Config = current_app.extensions["signup.config"]
    secret = "set, not shown"  # noqa: S105 - a word for the operator
    click.echo(f"environment        {config.environment}")
    click.echo(f"public url         {config.public_url}")
    click.echo(f"listens on         {config.host}:{config.port}")
    click.echo(f"instance           {config.instance}")
    click.echo(f"database           {'SQLite' if config.sqlite else 'PostgreSQL'}")
    click.echo(f"secret key         {secret}, {len(config.secret_keys) - 1} fallbacks")
    click.echo(f"pepper, data key   {secret}")
    click.echo(f"mail server        {f'{config.mail.server}:{config.mail.port}' if config.mail else 'none'}")
    click.echo(f"trusted proxies    {config.trusted_proxies}")
    click.echo(f"outbound allowance {', '.join(config.outbound_allow) or 'public addresses over https only'}")
    ways = len(config.alarm_mail) + (config.alarm_url is not None)
    click.echo(f"alarms go to       {f'{ways} places' if ways else 'the log and /metrics only'}")
    for name, value in (intake.told(config.intake) | evidence.told(config.evidence)).items():
        click.echo(f"{name:<19}{value}")
    click.echo(f"sender check       {config.sending.check}")
    click.echo(f"known settings     {', '.join(sorted(SETTINGS))}")
    try:
        with reading() as session:
            current = queries.current_migration(session)
    except OperationalError as error:
        raise BadInput(f"The database cannot be reached: {error.orig}") from None
    if current != queries.newest_migration():
        raise BadInput(f"The database is at migration {current}: run flask db upgrade.")
    click.echo(f"migration          {current}")
    _check_capacity(config)
    cli_senders.check_all(dns=dns)


def _check_capacity(config: Config) -> None:
    processes = capacity.planned()
    click.echo(f"gunicorn           {processes.web} processes with {processes.threads} threads")
    problem = capacity.too_many_threads(processes)
    if problem:
        raise BadInput(problem)
    if config.sqlite:
        return
    with reading() as session:
        found = capacity.server(session)
    for line in capacity.connections(processes, found):
        click.echo(line)


COMMANDS = (controller, form, check_config)
