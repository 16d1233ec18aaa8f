"""What every command shares: plain errors and the controller that is meant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from signup.core.db import Session
from signup.core.errors import DomainError, Invalid
from signup.purposes import actions as purposes
from signup.purposes.actions import ControllerView


class BadInput(click.ClickException):
    """One clear line, exit 2, nothing changed."""

    exit_code = 2

    def show(self, file: object = None) -> None:
        click.echo(f"Error: {self.format_message()}", err=True)


@contextmanager
def plain_errors() -> Iterator[None]:
    """A broken rule becomes one line for the operator."""
    try:
        yield
    except Invalid as error:
        details = "; ".join(f"{item['field']}: {item['message']}" for item in error.errors)
        raise BadInput(f"{error.message} {details}".strip()) from None
    except DomainError as error:
        raise BadInput(error.message) from None


def controller_named(session: Session, slug: str | None) -> ControllerView:
    """The controller with this slug; without one, the only one there is."""
    if slug:
        return purposes.find_controller(session, slug)
    every = purposes.list_controllers(session)
    if len(every) != 1:
        names = ", ".join(item.slug for item in every) or "none yet: make one with flask controller create"
        raise BadInput(f"Say which controller with --controller ({names}).")
    return every[0]
