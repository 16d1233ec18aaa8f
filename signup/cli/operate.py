"""Commands for the operator: the worker and the retention run."""

from __future__ import annotations

import click
from flask import current_app

from signup.cli.common import BadInput, PlainCommand, PlainGroup
from signup.core.config import Config
from signup.core.db import reading
from signup.core.values import utc_now
from signup.privacy import retention
from signup.worker import Worker


@click.command("worker", cls=PlainCommand)
def worker() -> None:
    """Send mails and webhooks and keep retention, until SIGTERM."""
    config: Config = current_app.extensions["signup.config"]
    if config.mail is None:
        raise BadInput("MAIL_SERVER is not set: bin/run sets it to the development mailbox")
    Worker(current_app._get_current_object()).run()  # type: ignore[attr-defined] # the worker's threads need the real object


retention_group = PlainGroup("retention", help="What is kept no longer than needed.")


@retention_group.command("run")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def run_retention(dry_run: bool) -> None:
    """Expire open questions and erase what nobody confirmed."""
    if dry_run:
        with reading() as session:
            for name, count in retention.preview(session, now=utc_now()).items():
                click.echo(f"{name}\t{count}")
        return
    for name, count in retention.run_now(utc_now).items():
        click.echo(f"{name}\t{count}")


COMMANDS = (worker, retention_group)
