"""The flask commands. Bad input: one clear line on standard error, exit 2, nothing changed."""

from __future__ import annotations

from dataclasses import dataclass, field

from flask import Flask

from signup.cli import abuse, backup, bounces, evidence, holds, keys, mails, operate, senders, setup, transfer, webhooks
from signup.cli.common import Commands


@dataclass(frozen=True)
class Prepared:
    """What a first or later start found or made."""

    first_start: bool
    api_key: str | None
    forms: list[str] = field(default_factory=list)


def register(app: Flask) -> None:
    """All commands are found by `flask`."""
    app.cli = Commands(app.name, commands=app.cli.commands)
    for module in (setup, keys, mails, webhooks, transfer, operate, bounces, abuse, backup, evidence, holds, senders):
        for command in module.COMMANDS:
            app.cli.add_command(command)


def prepare(app: Flask) -> Prepared:
    """The database is at the newest migration; in development a first start holds the demo and an API key."""
    with app.app_context():
        setup.upgrade()
        key = setup.seed_demo() if app.extensions["signup.config"].development else None
        return Prepared(first_start=key is not None, api_key=key, forms=setup.demo_forms())
