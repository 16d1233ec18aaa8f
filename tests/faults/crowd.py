"""People who sign up and confirm all the time, and a ledger of what they were told."""

from __future__ import annotations

import http.client
import itertools
import quopri
import random
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import urlencode

from signup.core.signing import Keys
from tests.support.smtp import ScriptedSmtp

URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}
ACCEPTED = (202, 303)
SECONDS_TO_READ = 5
_MESSAGE_ID = re.compile(rb"^Message-ID: (\S+)\r?$", re.MULTILINE)
_LINK = re.compile(rb"/confirm/([A-Za-z0-9_.-]+)")


@dataclass
class Ledger:
    """What clients know: the only truth that the database is held against."""

    tried: set[str] = field(default_factory=set)  # every address that was ever sent
    accepted: set[str] = field(default_factory=set)  # answered 202 or 303
    confirming: set[str] = field(default_factory=set)  # the button was pressed
    confirmed: set[str] = field(default_factory=set)  # and answered 303
    broken: int = 0  # requests that got no answer
    statuses: Counter[int] = field(default_factory=Counter)
    mails_in_flight: Counter[str] = field(default_factory=Counter)  # Message-ID -> faults that met it leased
    posts_in_flight: Counter[tuple[str, str]] = field(default_factory=Counter)  # (path, webhook-id) -> faults


class Crowd:
    """Threads that sign new people up, and threads that press the button in the mails that arrived.

    Args:
        rate: sign-ups per second at most.
        share_confirmed: so many of those who got a mail press its button.
    """

    def __init__(
        self,
        ledger: Ledger,
        smtp: ScriptedSmtp,
        port: int,
        keys: Keys,
        now: Callable[[], datetime],
        *,
        rate: float = 20,
        share_confirmed: float = 0.5,
        threads: int = 4,
        seed: int = 1,
    ) -> None:
        self.ledger, self.smtp, self.port, self.keys, self.now = ledger, smtp, port, keys, now
        self.pause, self.share = threads / rate, share_confirmed
        self.random = random.Random(seed)
        self.stopping = threading.Event()
        self.sent = 0
        self._lock = threading.Lock()
        self._numbers = itertools.count(len(ledger.tried))
        self._read = len(smtp.received)
        self._threads = [threading.Thread(target=self._sign_ups, daemon=True) for _ in range(threads)]
        self._threads += [threading.Thread(target=self._confirmations, daemon=True) for _ in range(2)]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join()

    def post(self, path: str, fields: dict[str, str], **headers: str) -> int:
        """The status, or 0 when no answer came."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            self.sent += 1
            connection.request("POST", path, urlencode(fields), {**URLENCODED, **headers})
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException):
            status = 0
        finally:
            connection.close()
        with self._lock:
            if status:
                self.ledger.statuses[status] += 1
            else:
                self.ledger.broken += 1
        return status

    def sign_up(self, email: str, *, patient: bool = True) -> bool:
        """One press of the button; whoever is patient presses again until it is answered, as browsers let them."""
        self.ledger.tried.add(email)
        fields = {"email": email, "purpose": "product-news", "render_id": f"page-{email}"}
        headers = {"Accept": "application/json"} if self.random.random() < 0.5 else {}
        while True:
            status = self.post("/f/demo-de", fields, **headers)
            if status in ACCEPTED:
                self.ledger.accepted.add(email)
                return True
            if not patient or self.stopping.wait(0.1):
                return False

    def confirm(self, email: str, token: str) -> bool:
        ident = self.keys.open_token("confirm", token)
        assert ident is not None
        self.ledger.confirming.add(email)
        while True:
            opened = self.now() - timedelta(seconds=SECONDS_TO_READ)
            status = self.post(f"/confirm/{token}", {"nonce": self.keys.page_nonce("confirm", ident, opened)})
            if status == http.HTTPStatus.SEE_OTHER:
                self.ledger.confirmed.add(email)
                return True
            if self.stopping.wait(0.1):
                return False

    def _sign_ups(self) -> None:
        while not self.stopping.wait(self.random.uniform(0.5, 1.5) * self.pause):
            number = next(self._numbers)
            # Every third person gives up when no answer comes: nobody knows then whether it counted.
            self.sign_up(f"person-{number}@beispiel.example", patient=number % 3 != 0)

    def _confirmations(self) -> None:
        while not self.stopping.wait(0.02):
            with self._lock:
                arrived = self.smtp.received[self._read : self._read + 5]
                self._read += len(arrived)
            for received in arrived:
                email = received.rcpt_tos[0]
                if email not in self.ledger.confirming and self.random.random() < self.share:
                    self.confirm(email, token_in(received.content))
                if self.stopping.is_set():
                    return


def token_in(mail: bytes) -> str:
    """What the link in the mail carries."""
    found = _LINK.search(quopri.decodestring(mail))
    assert found
    return found[1].decode()


def message_id_of(mail: bytes) -> str:
    found = _MESSAGE_ID.search(mail)
    assert found
    return found[1].decode()
