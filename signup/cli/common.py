"""What every command shares: plain errors on one line and the controller that is meant."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from flask.cli import AppGroup
from sqlalchemy.exc import DBAPIError

from signup.core.db import Session
from signup.core.errors import DomainError, Invalid
from signup.forms import actions as forms
from signup.purposes import actions as purposes
from signup.purposes.actions import ControllerView

# Off a terminal a line this often says that it still works.
TELL_EVERY = 100_000


class BadInput(click.ClickException):
    """One clear line, exit 2, nothing changed."""

    exit_code = 2

    def show(self, file: object = None) -> None:
        # Click and database drivers break their messages into lines.
        click.echo(f"Error: {' '.join(self.format_message().split())}", err=True)


@contextmanager
def _plain_usage() -> Iterator[None]:
    """A wrong call becomes one line: Click's own answer is the usage, a hint, a blank and then the error."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError as error:
        raise BadInput(f"Missing command. Choose from {', '.join(_names(error.ctx.command))}.") from None
    except click.UsageError as error:
        raise BadInput(error.format_message()) from None


def _names(command: click.Command) -> list[str]:
    return sorted(command.commands) if isinstance(command, click.Group) else []


class PlainCommand(click.Command):
    """A command whose usage errors are one line."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with _plain_usage():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _plain_usage():
            return super().invoke(ctx)


class PlainGroup(PlainCommand, AppGroup):
    """A group whose usage errors, and those of all commands in it, are one line."""


class Commands(PlainGroup):
    """All commands of the application; `flask` asks here for a name that is not its own."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        found = super().get_command(ctx, cmd_name)
        if found is None:
            raise BadInput(f"No such command {cmd_name!r}. See flask --help.")
        return found


@contextmanager
def plain_errors() -> Iterator[None]:
    """A broken rule becomes one line for the operator."""
    try:
        yield
    except Invalid as error:
        # A rule with one field often says the same in both places.
        added = [item for item in error.errors if item["message"] not in error.message]
        details = "; ".join(f"{item['field']}: {item['message']}" for item in added)
        raise BadInput(f"{error.message} {details}".strip()) from None
    except DomainError as error:
        raise BadInput(error.message) from None
    except DBAPIError:
        raise BadInput("The database does not fit this program: run flask db upgrade.") from None


def controller_named(session: Session, slug: str | None, *, how: str = "--controller") -> ControllerView:
    """The controller with this slug; without one, the only one there is.

    Args:
        how: how the command is told the slug, for the message.
    """
    if slug:
        return purposes.find_controller(session, slug)
    every = purposes.list_controllers(session)
    if len(every) != 1:
        names = ", ".join(item.slug for item in every) or "none yet: make one with flask controller create"
        raise BadInput(f"Say which controller with {how} ({names}).")
    return every[0]


def form_owner(session: Session, slug: str | None, form: str) -> ControllerView:
    """The controller with this slug; without one, the one whose form it is."""
    return controller_named(session, slug) if slug else forms.owner(session, form)


@contextmanager
def told(label: str, total: int, what: str = "rows") -> Iterator[Callable[[str, int], None]]:
    """What tells of progress: a bar on a terminal and plain lines elsewhere, both on standard error."""
    done: dict[str, int] = {}
    if sys.stderr.isatty():
        with click.progressbar(length=total, label=label, file=sys.stderr) as bar:

            def move(part: str, rows: int) -> None:
                bar.update(rows - done.get(part, 0))
                done[part] = rows

            yield move
        return
    said = 0

    def say(part: str, rows: int) -> None:
        nonlocal said
        done[part] = rows
        if sum(done.values()) - said >= TELL_EVERY:
            said = sum(done.values())
            click.echo(f"{label}: {said} of about {total} {what}", err=True)

    yield say
    click.echo(f"{label}: {sum(done.values())} {what}", err=True)
