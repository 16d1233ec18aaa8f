"""Commands for the operator: the worker, the retention run and the jobs that were given up."""

from __future__ import annotations

import sys

import click
from flask import current_app

from signup import jobs
from signup.cli.common import BadInput, PlainCommand, PlainGroup, plain_errors
from signup.core.config import Config
from signup.core.db import reading, transaction
from signup.core.values import rfc3339, utc_now
from signup.privacy import retention
from signup.worker import ThreadLost, Worker


@click.command("worker", cls=PlainCommand)
def worker() -> None:
    """Send mails and webhooks and keep retention, until SIGTERM."""
    config: Config = current_app.extensions["signup.config"]
    if config.mail is None:
        raise BadInput("MAIL_SERVER is not set: bin/run sets it to the development mailbox")
    try:
        Worker(current_app._get_current_object()).run()  # type: ignore[attr-defined] # the worker's threads need the real object
    except ThreadLost:
        # The log says which; whoever started us starts us again.
        sys.exit(1)


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


jobs_group = PlainGroup("jobs", help="Work that was given up.")


@jobs_group.command("list")
def list_jobs() -> None:
    """List jobs that were given up, with the reason."""
    with plain_errors(), reading() as session:
        for job in jobs.dead(session):
            click.echo(f"{job.id}\t{job.kind}\t{rfc3339(job.created_at)}\t{job.attempt} tries\t{job.error}")


@jobs_group.command("drop")
@click.argument("ident", metavar="ID", required=False)
@click.option("--all", "every", is_flag=True, help="All of them.")
def drop_jobs(ident: str | None, every: bool) -> None:
    """Forget the job ID that was given up, so that no alarm speaks of it any more."""
    if bool(ident) == every:
        raise BadInput("Say which job by its id, or --all.")
    with plain_errors(), transaction() as session:
        count = jobs.drop_dead(session, ident)
    if ident and not count:
        raise BadInput(f"No job {ident} was given up.")
    click.echo(f"{count} dropped")


COMMANDS = (worker, retention_group, jobs_group)
