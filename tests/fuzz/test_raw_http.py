"""Bytes that are no proper HTTP, sent to the real server: refused or dropped, nothing written, and it serves on."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from signup.app import create_app
from signup.core.config import Config
from signup.core.db import Base, database, reading
from tests.conftest import environment
from tests.fuzz.conftest import tried
from tests.support.servers import Service, http_status, running_service
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

MEBIBYTE = 1024 * 1024
# A busy machine may take long; nobody waits this long when all is well.
PATIENCE_SECONDS = 30.0
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
FORM = b"application/x-www-form-urlencoded"
FIELDS = b"email=raw%40example.org&purpose=product-news"
TOKEN = b"AAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


@dataclass(frozen=True)
class Server:
    service: Service
    app: Flask

    def connect(self) -> socket.socket:
        parts = urlsplit(self.service.url)
        return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=PATIENCE_SECONDS)

    def talk(self, data: bytes, *, finish: bool = True) -> bytes:
        """All that comes back until the server hangs up; `finish` says that no more will be sent."""
        with self.connect() as connection:
            # Who refuses early may close before all is sent.
            with contextlib.suppress(OSError):
                connection.sendall(data)
                if finish:
                    connection.shutdown(socket.SHUT_WR)
            return received(connection)

    def statuses(self, data: bytes) -> list[int]:
        return [int(found) for found in STATUS.findall(self.talk(data))]

    def serves(self) -> bool:
        return wait_for(lambda: http_status(self.service.url, "/f/demo-de"), seconds=PATIENCE_SECONDS) == 200

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything that is stored, but how often a page was seen: damage may leave a proper GET."""
        with self.app.app_context(), reading() as session:
            return {
                table.name: [tuple(row) for row in session.execute(select(table).order_by(*table.primary_key))]
                for table in Base.metadata.sorted_tables
                if table.name != "form_views"
            }

    def complaints(self) -> list[str]:
        """What the log says of errors, tracebacks and dead processes."""
        bad = re.compile(r"Traceback|\"level\": ?\"(error|critical)\"|\[ERROR\]|\[CRITICAL\]|Worker exiting")
        return [line for line in self.service.logs().splitlines() if bad.search(line)]


def received(connection: socket.socket) -> bytes:
    got = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(65536):
            got += chunk
    return got


@pytest.fixture(scope="module")
def server(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("raw")
    shutil.copy(sqlite_template, folder / "signup.db")
    settings = environment(folder)
    # The service listens on a port of its own, which running_service knows.
    del settings["PUBLIC_URL"]
    with running_service(folder, migrate=False, workers=0, **settings) as running:
        app = create_app(Config.from_env(running.environ))
        yield Server(running, app)
        with app.app_context():
            database().engine.dispose()


def post(path: bytes, body: bytes, *headers: bytes, kind: bytes = FORM, length: int | bytes | None = None) -> bytes:
    said = len(body) if length is None else length
    head = [b"POST " + path + b" HTTP/1.1", b"Host: x", b"Connection: close", b"Content-Type: " + kind]
    head += [b"Content-Length: " + (said if isinstance(said, bytes) else b"%d" % said), *headers]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def chunked(body: bytes, path: bytes = b"/f/demo-de") -> bytes:
    head = (
        b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nContent-Type: "
    )
    return head + FORM + b"\r\n\r\n" + body


def get(path: bytes, *headers: bytes, method: bytes = b"GET", version: bytes = b"HTTP/1.1") -> bytes:
    lines = [method + b" " + path + b" " + version, b"Host: x", b"Connection: close", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def part(name: bytes, value: bytes) -> bytes:
    return b'--sep\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value + b"\r\n"


MULTIPART = b"multipart/form-data; boundary=sep"
GOOD_PARTS = part(b"email", b"raw@example.org") + part(b"purpose", b"product-news")

# Each is to be refused: a 4xx, or no answer at all.
REFUSED: dict[str, bytes] = {
    "no request": b"\r\n\r\n",
    "garbage": bytes(range(256)) * 20,
    "one word": b"GET\r\n\r\n",
    "no version": b"GET /f/demo-de\r\n\r\n",
    "HTTP/0.9": b"GET /f/demo-de HTTP/0.9\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/3.0": get(b"/f/demo-de", version=b"HTTP/3.0"),
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 512,
    "two blanks": b"GET  /f/demo-de HTTP/1.1\r\nHost: x\r\n\r\n",
    "tab for a blank": b"GET\t/f/demo-de\tHTTP/1.1\r\nHost: x\r\n\r\n",
    "a long request line": get(b"/f/" + b"a" * 9000),
    "an endless request line": b"GET /" + b"a" * 200_000,
    "a huge header": get(b"/f/nope", b"X-Filler: " + b"a" * 100_000),
    "many headers": get(b"/f/nope", *[b"X-%d: 1" % number for number in range(2000)]),
    "NUL in a header": get(b"/f/nope", b"X-Odd: a\x00b"),
    "NUL in a header's name": get(b"/f/nope", b"X\x00Odd: a"),
    "a control byte in a header": get(b"/f/nope", b"X-Odd: a\x01b"),
    "a header without colon": get(b"/f/nope", b"nonsense"),
    "a header with a blank before its colon": get(b"/f/demo-de", b"X-Odd : a"),
    "a folded header": get(b"/f/nope", b"X-Odd: a\r\n b"),
    "a header with a bare line feed": get(b"/f/nope", b"X-Odd: a\nX-More: b"),
    "NUL in the path": get(b"/f/demo-de\x00"),
    "encoded NUL in the path": get(b"/f/demo-de%00"),
    "encoded dots in the path": get(b"/f/..%2f..%2fetc%2fpasswd"),
    "dots in the path": get(b"/../../../etc/passwd"),
    "dots in a static path": get(b"/static/../app.py"),
    "encoded dots in a static path": get(b"/static/%2e%2e/app.py"),
    "invalid UTF-8 in the path": get(b"/f/\xff\xfe"),
    "encoded invalid UTF-8 in the path": get(b"/f/%ff%fe"),
    "half a percent in the path": get(b"/f/%"),
    "raw invalid UTF-8 in a token": get(b"/confirm/\xff"),
    "a huge token": get(b"/confirm/" + b"A" * 3000),
    "a foreign token": get(b"/unsubscribe/" + TOKEN),
    "an odd method": get(b"/f/demo-de", method=b"BREW"),
    "a small method": get(b"/f/demo-de", method=b"get"),
    "TRACE": get(b"/f/demo-de", method=b"TRACE"),
    "CONNECT": b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "a method of 300 letters": get(b"/f/demo-de", method=b"A" * 300),
    "a length that is too long": post(b"/f/demo-de", FIELDS, length=5000),
    "a length below zero": post(b"/f/demo-de", FIELDS, length=-1),
    "a length that is no number": post(b"/f/demo-de", FIELDS, length=b"many"),
    "a length with a sign": post(b"/f/demo-de", FIELDS, length=b"+44"),
    "a length in other digits": post(b"/f/demo-de", FIELDS, length="４４".encode()),
    "a length with an underscore": post(b"/f/demo-de", FIELDS, length=b"4_4"),
    "a huge length": post(b"/f/demo-de", FIELDS, length=10**30),
    "two lengths": post(b"/f/demo-de", FIELDS, b"Content-Length: 5"),
    "a length and chunks": post(b"/f/demo-de", FIELDS, b"Transfer-Encoding: chunked"),
    "chunked twice": chunked(b"0\r\n\r\n").replace(b"chunked\r\n", b"chunked, chunked\r\n"),
    "a chunk without size": chunked(b"\r\n" + FIELDS + b"\r\n0\r\n\r\n"),
    "a chunk size that is no number": chunked(b"zz\r\n" + FIELDS + b"\r\n0\r\n\r\n"),
    "a chunk size below zero": chunked(b"-5\r\n" + FIELDS + b"\r\n0\r\n\r\n"),
    "a chunk that is too short": chunked(b"ff\r\n" + FIELDS),
    "a chunk that is too long": chunked(b"5\r\n" + FIELDS + b"\r\n0\r\n\r\n"),
    "a huge chunk size": chunked(b"f" * 40 + b"\r\n" + FIELDS),
    "chunks without an end": chunked(b"%x\r\n" % len(FIELDS) + FIELDS + b"\r\n"),
    "a body above 1 MiB": post(b"/f/demo-de", FIELDS + b"&a=" + b"a" * MEBIBYTE),
    "a body above 4 MiB": post(b"/f/demo-de", FIELDS + b"&a=" + b"a" * 5 * MEBIBYTE),
    "chunks above 1 MiB": chunked(b"%x\r\n" % (2 * MEBIBYTE) + b"a" * 2 * MEBIBYTE + b"\r\n0\r\n\r\n"),
    "NUL in the address": post(b"/f/demo-de", b"email=a%00@example.org&purpose=product-news"),
    "raw NUL in the body": post(b"/f/demo-de", b"email=a\x00@example.org&purpose=product-news"),
    "invalid UTF-8 in the body": post(b"/f/demo-de", b"email=\xff\xfe@example.org&purpose=product-news"),
    "deep JSON": post(b"/f/demo-de", b"[" * 200_000, kind=b"application/json"),
    "deep JSON objects": post(b"/f/demo-de", b'{"email":' * 20_000, kind=b"application/json"),
    "huge JSON": post(b"/f/demo-de", json.dumps({"email": "a" * MEBIBYTE}).encode(), kind=b"application/json"),
    "invalid UTF-8 in JSON": post(b"/f/demo-de", b'{"email": "\xff"}', kind=b"application/json"),
    "JSON in UTF-16": post(b"/f/demo-de", '{"email": 1}'.encode("utf-16"), kind=b"application/json"),
    "multipart without boundary": post(b"/f/demo-de", GOOD_PARTS + b"--sep--\r\n", kind=b"multipart/form-data"),
    "multipart with another boundary": post(b"/f/demo-de", GOOD_PARTS, kind=b"multipart/form-data; boundary=other"),
    "multipart with an empty boundary": post(b"/f/demo-de", GOOD_PARTS, kind=b"multipart/form-data; boundary="),
    "multipart cut off": post(b"/f/demo-de", GOOD_PARTS[:60], kind=MULTIPART),
    "multipart of garbage": post(b"/f/demo-de", bytes(range(256)), kind=MULTIPART),
    "multipart with a part without name": post(b"/f/demo-de", b"--sep\r\n\r\nx\r\n--sep--\r\n", kind=MULTIPART),
    "multipart of 6000 parts": post(b"/f/demo-de", part(b"a", b"b") * 6000 + b"--sep--\r\n", kind=MULTIPART),
    "a charset that is none": post(b"/f/demo-de", FIELDS[5:], kind=FORM + b"; charset=\xff"),
    "an odd content type": post(b"/f/demo-de", FIELDS, kind=b"\xff/\xfe"),
    "an expectation nobody can meet": post(b"/f/demo-de", b"", b"Expect: 200-ok"),
    "a key in invalid UTF-8": get(b"/api/v1/contacts", b"Authorization: Bearer \xff\xfe"),
    "an empty key": get(b"/api/v1/contacts", b"Authorization: Bearer"),
    "a cursor in invalid UTF-8": get(b"/api/v1/contacts?cursor=%ff"),
    "one-click with a foreign token": post(b"/unsubscribe/" + TOKEN, b"List-Unsubscribe=One-Click"),
    "not-me with a NUL": post(b"/not-me/%00", b"nonce=1"),
}


def check(server: Server, name: str, data: bytes) -> list[int]:
    found = server.statuses(data)
    assert all(400 <= status < 500 for status in found), (name, found)
    return found


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_and_nothing_is_written_when_a_request_is_broken(server: Server, name: str) -> None:
    before, said = server.rows(), len(server.complaints())
    check(server, name, REFUSED[name])
    assert server.rows() == before
    assert server.complaints()[said:] == []
    assert server.serves()


# Odd, and all the same a request that can be answered.
ANSWERED: dict[str, tuple[bytes, list[int]]] = {
    "HTTP/1.0": (get(b"/f/demo-de", version=b"HTTP/1.0"), [200]),
    "an absolute address": (get(b"http://elsewhere.example/f/demo-de"), [200]),
    "a query of everything": (get(b"/f/demo-de?" + b"%00%ff&" * 500), [200]),
    "other languages": (get(b"/f/demo-de", b"Accept-Language: \xff;q=\xfe,de;q=nan", b"Accept: ;;;,*/*;q=x"), [200]),
    "a cookie of garbage": (get(b"/f/demo-de", b'Cookie: \xff="\x80; ;;a=b=c'), [200]),
    "a strange host": (get(b"/f/demo-de").replace(b"Host: x", b"Host: \xff[::]:99999"), [200]),
    "a range": (get(b"/static/css/public.css", b"Range: bytes=9-2,-0,x"), [416]),
    "dates before time": (get(b"/static/css/public.css", b"If-Modified-Since: Thu, 99 Foo 0000 99:99:99 GMT"), [200]),
    "an encoded slash": (get(b"/f%2fdemo-de"), [200]),
    # RFC 9112 6.1: who does not understand a coding says so.
    "an unknown coding": (post(b"/f/demo-de", FIELDS, b"Transfer-Encoding: zip"), [501]),
    "the waiting page of nobody": (post(b"/f/demo-de/pending/" + b"x" * 500, b"nonce=%00%ff"), [303]),
    "two on one line": (get(b"/f/demo-de").replace(b"Connection: close\r\n", b"") + get(b"/f/demo-en"), [200, 200]),
    "a length that is too short": (post(b"/f/demo-de", b"email=a&purpose=product-news", length=7), [422]),
    "the same field twice": (post(b"/f/demo-de", b"email=a&email=b&purpose=&purpose=x&purpose=x"), [422]),
    "all methods": (get(b"/f/demo-de", method=b"OPTIONS"), [204]),
    "a forwarding header of garbage": (get(b"/f/demo-de", b"X-Forwarded-For: \xff, ,;drop table,::::"), [200]),
}


def test_what_follows_a_broken_body_is_no_request_of_its_own(server: Server) -> None:
    # A proxy in front may have seen one request where we would see two.
    for body in (b"zz\r\n", b"-1\r\n", b"5\r\nemail=\r\n"):
        found = server.statuses(chunked(body + get(b"/f/demo-de")))
        assert 200 not in found, body
    assert server.serves()


@pytest.mark.parametrize("name", ANSWERED)
def test_it_is_answered_when_a_request_is_odd_but_clear(server: Server, name: str) -> None:
    before, said = server.rows(), len(server.complaints())
    data, statuses = ANSWERED[name]
    assert server.statuses(data) == statuses
    assert server.rows() == before
    assert server.complaints()[said:] == []


def test_the_body_is_asked_for_when_the_client_waits_for_that(server: Server) -> None:
    body = b"email=waits%40example.org"
    head = post(b"/f/demo-de", b"", b"Expect: 100-continue", length=len(body))
    with server.connect() as connection:
        connection.sendall(head)
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert [int(found) for found in STATUS.findall(received(connection))] == [422]


def test_others_are_served_when_one_client_never_ends_its_request(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        for start in (
            b"GET /f/demo-de HTTP/1.1\r\nHost: x\r\nX-Slow: ",
            post(b"/f/demo-de", b"email=", length=99),
            b"",
        ):
            stack.enter_context(server.connect()).sendall(start)
        for _ in range(5):
            assert server.serves()


SEEDS = [
    get(b"/f/demo-de", b"Accept-Language: de", b"User-Agent: x"),
    get(b"/confirm/" + TOKEN),
    get(b"/api/v1/subscriptions?email=a%40example.org&limit=5", b"Authorization: Bearer sk_x"),
    post(b"/f/demo-de", b"email=a&purpose=product-news&render_id=1&form_version=1", b"Origin: https://a.example"),
    post(b"/f/demo-en", part(b"email", b"a") + part(b"purpose", b"x") + b"--sep--\r\n", kind=MULTIPART),
    post(b"/f/demo-de", b'{"email": "a", "purpose": ["product-news"]}', kind=b"application/json"),
    post(b"/unsubscribe/" + TOKEN, b"List-Unsubscribe=One-Click"),
    post(b"/api/v1/subscriptions", b'{"email": "a"}', b"Authorization: Bearer sk_x", kind=b"application/json"),
    chunked(b"7\r\nemail=a\r\n8\r\n&purpose\r\n0\r\n\r\n"),
]
SPICE = [
    *(bytes([number]) for number in b'\x00\r\n \t:%/?#;"\xff'),
    *(b"\r\n", b"\r\n\r\n", b"%00", b"%ff", b"\xed\xa0\x80", b"..", b"0\r\n\r\n", b"--sep", b"HTTP/1.0", b"-1"),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n", b"Connection: keep-alive\r\n", b"Host: y\r\n"),
    *(b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n", b"Content-Encoding: gzip\r\n"),
]


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A proper request with a few bytes lost, doubled, changed or added."""
    data = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 0, 1, 2, 7, 40])))
        new = draw(st.sampled_from(SPICE) | st.binary(max_size=6) | st.just(data[start:end] * 2))
        data = data[:start] + new + data[end:]
    return data


def test_nothing_breaks_when_requests_are_damaged_at_random(server: Server) -> None:
    # No seed holds a whole address, and damage does not make one: so nothing may be written.
    before, said = server.rows(), len(server.complaints())

    @tried(150)
    @given(data=broken())
    def sent(data: bytes) -> None:
        found = server.statuses(data)
        # 501 is the server's word for a coding that it does not know.
        assert all(status < 500 or status == 501 for status in found), found

    sent()
    assert server.rows() == before
    assert server.complaints()[said:] == []
    assert server.serves()
