"""The verifier as tests call it, and a person to whom things happen."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from flask.testing import FlaskClient

from signup import wiring
from signup.core.db import database, reading, transaction
from signup.evidence import bundle as bundles
from signup.subscriptions import answers, endings, preferences
from signup.subscriptions.endings import Ending
from signup.subscriptions.states import EndReason, Frequency
from signup.worker import JobTurn
from tests.conftest import CLIENT, Clock, SignedUp

MAIL = next(kind for kind in wiring.JOBS if kind.name == "mail.send")
ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "verifier" / "signup_verify.py"


def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("signup_verify", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules["signup_verify"] = loaded
    spec.loader.exec_module(loaded)
    return loaded


verify: Any = module()


def send_mails(clock: Clock) -> None:
    one = JobTurn(MAIL)
    try:
        one(clock)
    finally:
        one.close(clock)


class World:
    """One person, and what can happen to them; each step a little later than the one before."""

    def __init__(self, sign_up: Callable[..., SignedUp], clock: Clock) -> None:
        self._sign_up = sign_up
        self.clock = clock
        self.person: SignedUp

    def ask(self, email: str = "anna@kunde.example", chosen: tuple[str, ...] = ("product-news",)) -> SignedUp:
        self.person = self._sign_up(email, chosen=chosen, at=self.clock.forward(minutes=11))
        send_mails(self.clock)
        return self.person

    def ident(self, kind: str) -> bytes:
        url = {"confirm": self.person.confirm_url, "not-me": self.person.not_me_url}[kind]
        opened = database().sessions.kw["keys"].open_token(kind, url.rpartition("/")[2])
        assert opened is not None
        return opened

    def confirm(self) -> None:
        now = self.clock.forward(minutes=2)
        with transaction() as session:
            answers.confirm(session, self.ident("confirm"), client=CLIENT, page_seconds=7, now=now)

    def refuse(self) -> None:
        now = self.clock.forward(minutes=2)
        with transaction() as session:
            answers.refuse(session, self.ident("not-me"), client=CLIENT, page_seconds=7, now=now)

    def end(self, reason: EndReason = EndReason.UNSUBSCRIBED, by: str = "page") -> None:
        with transaction() as session:
            order = endings.load(session, self.person.subscription_id)
            now = self.clock.forward(minutes=2)
            endings.end(session, order, Ending(reason, by), client=CLIENT, now=now)

    def undo(self) -> None:
        with transaction() as session:
            order = endings.load(session, self.person.subscription_id)
            assert endings.undo(session, order, None, client=CLIENT, now=self.clock.forward(minutes=2))

    def prefer(self, *topics: str) -> None:
        ident = database().sessions.kw["keys"].open_token("unsubscribe", self.person.unsubscribe_url.rpartition("/")[2])
        assert ident is not None
        wish = preferences.Wish(frozenset(topics), Frequency.ALL, None)
        with transaction() as session:
            assert preferences.save(session, ident, wish, client=CLIENT, now=self.clock.forward(minutes=11))


@dataclass
class Judge:
    """The verifier with the anchors of now."""

    folder: Path
    controller_id: str
    client: FlaskClient
    clock: Clock

    def bundle(self, person: SignedUp) -> dict[str, Any]:
        (self.folder / "anchors.json").write_bytes(self.client.get("/.well-known/signup-evidence.json").data)
        with reading() as session:
            made = bundles.of_contact(session, self.controller_id, person.contact_id, now=self.clock())
        return dict(json.loads(bundles.encoded(made)))

    def __call__(self, bundle: dict[str, Any]) -> tuple[int, str]:
        """Exit status and answer."""
        (self.folder / "bundle.json").write_text(json.dumps(bundle), encoding="utf-8")
        files = {"bundle": self.folder / "bundle.json", "anchors": self.folder / "anchors.json"}
        given = argparse.Namespace(**files, tsa_cert=None, tsa_root=None)
        status, text = verify.judged(given, verify.Teller("en"))
        return status, text
