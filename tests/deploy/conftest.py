"""A running service with a form, on either database."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.support.servers import Service

FORM = "news"
ABOUT = ("--address", "Weg 1", "--sender", "news@acme.example")
LINKS = ("--imprint", "https://acme.example/i", "--privacy", "https://acme.example/p")
SET_UP: Sequence[Sequence[str]] = (
    ("controller", "create", "acme", "--name", "Acme GmbH", *ABOUT, *LINKS),
    ("form", "create", FORM, "--title", "News", "--purpose", "news", "--text", "news=Yes please."),
)


@pytest.fixture(scope="session")
def furnish() -> Callable[[Service], None]:
    """Gives a new service a controller and the form `news`."""

    def act(service: Service) -> None:
        for command in SET_UP:
            done = service.flask(*command)
            assert done.returncode == 0, done.stderr

    return act
