"""What journeys share: plain HTTP as any client speaks it, mails as they were received, tables as they are."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any
from urllib.parse import urlencode, urlsplit

from sqlalchemy import func, select

from signup.core.db import Base, database, reading
from signup.core.values import utc_now
from tests.support.smtp import Received

# A starting process on a busy machine takes its time; nothing is asserted about how long.
PATIENCE_SECONDS = 60

URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def call(
    method: str, url: str, body: bytes | Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """One request on a connection of its own; redirects are not followed. A mapping is sent as a form."""
    parts = urlsplit(url)
    sent = dict(headers or {})
    if isinstance(body, Mapping):
        body, sent = urlencode(body, doseq=True).encode(), {**URLENCODED, **sent}
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), body, sent)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


@dataclass(frozen=True)
class Api:
    """The HTTP API with one key."""

    url: str
    key: str

    def __call__(self, method: str, path: str, content: Any = None, **headers: str) -> Answer:
        body = None if content is None else json.dumps(content).encode()
        every = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", **headers}
        return call(method, f"{self.url}/api/v1{path}", body, every)


@dataclass(frozen=True)
class Mail:
    """A mail that a mail server received."""

    raw: bytes
    message: EmailMessage

    @classmethod
    def of(cls, received: Received) -> Mail:
        message = message_from_bytes(received.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        return cls(received.content, message)

    def part(self, kind: str) -> str:
        found = self.message.get_body((kind,))
        assert found is not None
        return str(found.get_content()).replace("\r\n", "\n")

    def url(self, kind: str) -> str:
        """The mailed link of one kind, which stands alone on its line."""
        (found,) = re.findall(rf"^(http\S+/{kind}/\S+)$", self.part("plain"), re.MULTILINE)
        return str(found)


def tables() -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, in the order of its primary key."""
    with reading() as session:
        return {
            table.name: [tuple(row) for row in session.execute(select(table).order_by(*table.primary_key))]
            for table in Base.metadata.sorted_tables
        }


def ident_in(kind: str, url: str) -> bytes:
    """The raw id that a mailed link carries."""
    found: bytes | None = database().sessions.kw["keys"].open_token(kind, url.rpartition("/")[2])
    assert found is not None
    return found


def read_nonce(kind: str, url: str, *, seconds_ago: float = 5) -> str:
    """The hidden field of the page behind a mailed link, as somebody has it who opened the page that long ago."""
    opened = utc_now() - timedelta(seconds=seconds_ago)
    nonce: str = database().sessions.kw["keys"].page_nonce(kind, ident_in(kind, url), opened)
    return nonce


def count_rows(model: type[Base], *where: Any) -> int:
    with reading() as session:
        return session.scalar(select(func.count()).select_from(model).where(*where)) or 0
