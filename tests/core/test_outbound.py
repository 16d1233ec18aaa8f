"""Outgoing requests against real loopback listeners that behave as badly as receivers can."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask

from signup.core.config import Config
from signup.core.db import database, init_app, reading, transaction
from signup.core.outbound import Allowance, OutboundFailed, OutboundRefused, Reply, post
from signup.core.signing import Keys
from tests.support.certificates import ServerCertificate, make_certificate
from tests.support.waiting import wait_for

LOOPBACK = Allowance.parse(["127.0.0.0/8"])
SECRET_PATH = "/in/s3cr3t-path"

Serve = Callable[[socket.socket, bytes], None]


class Listener:
    """Accepts on loopback, reads a whole request, keeps it, and lets `serve` answer on the bare socket."""

    def __init__(self, serve: Serve, host: str, port: int, tls: ssl.SSLContext | None, read: bool) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.server_names: list[str | None] = []
        self._serve, self._tls, self._read = serve, tls, read
        self._socket = socket.create_server((host, port))
        self._socket.settimeout(0.05)
        self.port: int = self._socket.getsockname()[1]
        self.stopping = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        if tls is not None:
            tls.sni_callback = lambda _socket, name, _context: self.server_names.append(name)

    def stop(self) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join(10)
        self._socket.close()

    def _accept(self) -> None:
        while not self.stopping.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._socket.accept()
                self.connections += 1
                thread = threading.Thread(target=self._answer, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            if self._tls is not None:
                connection = stack.enter_context(self._tls.wrap_socket(connection, server_side=True))
            request = _request(connection) if self._read else b""
            self.requests.append(request)
            self._serve(connection, request)


def _request(connection: socket.socket) -> bytes:
    got = b""
    while True:
        head, end, body = got.partition(b"\r\n\r\n")
        if end:
            lengths = [
                line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
            ]
            if len(body) >= int(lengths[0]):
                return got
        more = connection.recv(65536)
        if not more:
            return got
        got += more


Listen = Callable[..., Listener]


@pytest.fixture
def listen() -> Iterator[Listen]:
    started: list[Listener] = []

    def start(
        serve: Serve, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None, read: bool = True
    ) -> Listener:
        started.append(Listener(serve, host, port, tls, read))
        return started[-1]

    yield start
    for listener in started:
        listener.stop()


def says(answer: bytes) -> Serve:
    return lambda connection, _request: connection.sendall(answer)


OK = says(b"HTTP/1.1 204 No Content\r\n\r\n")


def send(port: int, *, scheme: str = "http", host: str = "127.0.0.1", **options) -> Reply:
    options.setdefault("allowance", LOOPBACK)
    options.setdefault("total_seconds", 5)
    return post(f"{scheme}://{host}:{port}{SECRET_PATH}?k=v", b'{"a":1}', {"X-Own": "1"}, **options)


def failure(port: int, **options) -> OutboundFailed:
    with pytest.raises(OutboundFailed) as caught:
        send(port, **options)
    assert SECRET_PATH not in str(caught.value)
    return caught.value


# --- what is sent


def test_the_exact_bytes_arrive_when_the_target_is_allowed(listen):
    listener = listen(says(b"HTTP/1.1 200 Fine\r\nX-Answer: yes\r\nContent-Length: 5\r\n\r\nhello"))
    body = "Zoë 🐙".encode() * 1000
    headers = {"Content-Type": "application/json", "webhook-id": "msg_1"}
    reply = post(f"http://127.0.0.1:{listener.port}/x?y=z", body, headers, allowance=LOOPBACK)

    head, _, got = listener.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /x?y=z HTTP/1.1"
    assert sorted(lines[1:]) == sorted(
        [
            f"Host: 127.0.0.1:{listener.port}",
            "Accept-Encoding: identity",
            "Connection: close",
            "User-Agent: Signup",
            f"Content-Length: {len(body)}",
            "Content-Type: application/json",
            "webhook-id: msg_1",
        ]
    )
    assert got == body
    assert (reply.status, reply.body, reply.ip) == (200, b"hello", "127.0.0.1")
    assert reply.headers == {"x-answer": "yes", "content-length": "5"}
    assert 0 <= reply.milliseconds < 5000


@pytest.mark.req("W38")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("Host", "x"), ("content-length", "1"), ("Transfer-Encoding", "chunked"), ("Connection", "close")),
        *(
            ("X-A", "a\r\nHost: x"),
            ("X-A", "a\nb"),
            ("X-A", "\x00"),
            ("X-A", "ü"),
            ("X A", "a"),
            ("X-A:", "a"),
            ("", "a"),
        ),
        ("X-A\r\nX-B", "a"),
    ],
)
def test_a_header_is_refused_when_it_would_change_the_request(listen, name, value):
    listener = listen(OK)
    with pytest.raises(OutboundRefused) as caught:
        post(f"http://127.0.0.1:{listener.port}/", b"", {name: value}, allowance=LOOPBACK)
    assert caught.value.code == "header"
    assert listener.connections == 0


@pytest.mark.req("W38")
def test_the_proxies_of_the_environment_see_nothing_when_they_are_set(listen, monkeypatch):
    proxy, listener = listen(OK), listen(OK)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv(name.upper(), f"http://127.0.0.1:{proxy.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert send(listener.port).status == 204
    assert (listener.connections, proxy.connections) == (1, 0)


def test_no_cookie_comes_back_when_a_receiver_sets_one(listen):
    listener = listen(says(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"))
    send(listener.port)
    send(listener.port)
    assert len(listener.requests) == 2
    assert b"cookie" not in listener.requests[1].lower()


def test_nothing_is_sent_when_a_transaction_is_open(listen, tmp_path):
    listener = listen(OK)
    config = Config.from_env({"SIGNUP_ENV": "development", "SIGNUP_INSTANCE": str(tmp_path)})
    app = Flask(__name__)
    init_app(app, config, Keys(config.secret_keys, config.pepper, config.data_key))
    with app.app_context():
        for opened in (transaction, reading):
            with opened(), pytest.raises(RuntimeError, match="transaction"):
                send(listener.port)
        assert listener.connections == 0
        assert send(listener.port).status == 204
        database().engine.dispose()


# --- which address


@pytest.mark.req("W34")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_loopback_is_not_reached_when_the_operator_allows_nothing(listen, scheme):
    listener = listen(OK)
    for host, answers in (
        ("127.0.0.1", []),
        ("127.1", []),
        ("hook.example", ["127.0.0.1"]),
        ("localhost", ["127.0.0.1"]),
    ):
        with pytest.raises(OutboundRefused):
            send(
                listener.port,
                scheme=scheme,
                host=host,
                allowance=Allowance(),
                resolver=lambda *_, answers=answers: answers,
            )
    assert listener.connections == 0


@pytest.mark.req("W34")
def test_the_system_resolver_is_checked_too_when_a_name_means_this_machine(listen):
    listener = listen(OK)
    allowance = Allowance.parse(["10.0.0.0/8"])
    with pytest.raises(OutboundRefused) as caught:
        send(listener.port, host="localhost", allowance=allowance)
    assert caught.value.code == "address"
    assert listener.connections == 0
    assert send(listener.port, host="localhost", allowance=Allowance.parse(["localhost"])).status == 204


@pytest.mark.req("W35")
def test_the_forbidden_listener_is_never_reached_when_a_name_is_rebound(listen, monkeypatch):
    good = listen(OK, host="127.0.0.2")
    forbidden = listen(OK, host="127.0.0.1", port=good.port)
    allowance = Allowance.parse(["127.0.0.2"])
    asked: list[tuple[str, int]] = []
    answers = itertools.chain([["127.0.0.2"]], itertools.repeat(["127.0.0.1"]))

    def rebinding(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return next(answers)

    def second_question(*_args: object, **_options: object) -> None:
        raise AssertionError("the name was resolved a second time")

    monkeypatch.setattr(socket, "getaddrinfo", second_question)
    assert send(good.port, host="hook.example", allowance=allowance, resolver=rebinding).ip == "127.0.0.2"
    assert asked == [("hook.example", good.port)]
    for _ in range(3):
        with pytest.raises(OutboundRefused):
            send(good.port, host="hook.example", allowance=allowance, resolver=rebinding)
    assert (good.connections, forbidden.connections) == (1, 0)
    assert f"Host: hook.example:{good.port}".encode() in good.requests[0]


@pytest.mark.req("W36")
def test_nothing_is_reached_when_one_of_several_answers_is_forbidden(listen):
    good = listen(OK, host="127.0.0.2")
    forbidden = listen(OK, host="127.0.0.1", port=good.port)
    allowance = Allowance.parse(["127.0.0.2"])
    for answers in (["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "::ffff:127.0.0.2"]):
        with pytest.raises(OutboundRefused):
            send(good.port, host="hook.example", allowance=allowance, resolver=lambda *_, answers=answers: answers)
    assert (good.connections, forbidden.connections) == (0, 0)


def test_the_next_checked_address_is_used_when_the_first_does_not_answer(listen):
    listener = listen(OK, host="127.0.0.2")
    reply = send(listener.port, host="hook.example", resolver=lambda *_: ["127.0.0.9", "127.0.0.2"])
    assert (reply.status, reply.ip) == (204, "127.0.0.2")


@pytest.mark.req("W16")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_when_it_points_elsewhere(listen, status):
    other = listen(OK)
    location = f"Location: http://127.0.0.1:{other.port}/"
    listener = listen(says(f"HTTP/1.1 {status} Go\r\n{location}\r\nContent-Length: 0\r\n\r\n".encode()))
    reply = send(listener.port)
    assert (reply.status, reply.headers["location"]) == (status, location.removeprefix("Location: "))
    assert (listener.connections, other.connections) == (1, 0)


# --- when it ends


def drip(prefix: bytes, drop: bytes) -> Serve:
    """Each byte comes well before any socket time-out of its own; there are enough for half a minute."""

    def serve(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(prefix)
        if not drop:
            connection.recv(65536)  # says nothing until the other side hangs up
            connection.recv(65536)
        for _ in range(1500 if drop else 0):
            connection.sendall(drop)
            time.sleep(0.02)

    return serve


@pytest.mark.req("W17")
@pytest.mark.parametrize(
    "serve",
    [
        pytest.param(drip(b"", b"H"), id="status line"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\nX-A: ", b"a"), id="header value"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\n", b"A"), id="header name"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"a"), id="body"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\n\r\n", b"a"), id="body without length"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"), id="chunks"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n"), id="trailers"),
        pytest.param(drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), id="interim answers"),
    ],
)
def test_the_deadline_ends_it_when_a_receiver_drips(listen, serve):
    listener = listen(serve)
    started = time.monotonic()
    assert failure(listener.port, total_seconds=0.25).kind == "timeout"
    assert 0.24 <= time.monotonic() - started < 8


@pytest.mark.req("W17")
@pytest.mark.parametrize("read", [True, False])
def test_the_deadline_ends_it_when_a_receiver_says_nothing(listen, read):
    stop = threading.Event()
    listener = listen(lambda *_: stop.wait(10), read=read)
    started = time.monotonic()
    assert failure(listener.port, total_seconds=0.25).kind == "timeout"
    assert 0.24 <= time.monotonic() - started < 8
    stop.set()


@pytest.mark.req("W17")
def test_the_deadline_ends_it_when_a_receiver_does_not_read_a_large_body(listen):
    stop = threading.Event()
    listener = listen(lambda *_: stop.wait(10), read=False)
    url = f"http://127.0.0.1:{listener.port}/"
    started = time.monotonic()
    with pytest.raises(OutboundFailed) as caught:
        post(url, bytes(50_000_000), {}, allowance=LOOPBACK, total_seconds=0.25)
    assert caught.value.kind == "timeout"
    assert 0.24 <= time.monotonic() - started < 8
    stop.set()


@pytest.mark.req("W17")
@pytest.mark.parametrize("tls_drip", [b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", b""])
def test_the_deadline_ends_it_when_the_handshake_drips_or_hangs(listen, tls_drip):
    listener = listen(drip(tls_drip, tls_drip and b"\x03"), read=False)
    started = time.monotonic()
    assert failure(listener.port, scheme="https", total_seconds=0.25).kind == "timeout"
    assert 0.24 <= time.monotonic() - started < 8


@pytest.mark.req("W17")
def test_the_connect_limit_ends_it_when_nobody_accepts():
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        started = time.monotonic()
        assert failure(full.getsockname()[1], connect_seconds=0.3).kind == "timeout"
        assert 0.25 <= time.monotonic() - started < 8


@pytest.mark.req("W17")
def test_the_deadline_ends_it_when_the_resolver_hangs():
    stop = threading.Event()
    started = time.monotonic()
    broken = failure(
        443, scheme="https", host="hook.example", total_seconds=0.25, resolver=lambda *_: stop.wait(10) or []
    )
    assert broken.kind == "dns"
    assert 0.24 <= time.monotonic() - started < 8
    stop.set()


@pytest.mark.req("W17")
@pytest.mark.parametrize("framing", [b"Content-Length: 1000000000", b"Transfer-Encoding: chunked", b"X-Framing: none"])
def test_16_kilobytes_are_read_when_a_body_is_huge(listen, framing):
    sent = 0
    ended = threading.Event()

    def serve(connection: socket.socket, _request: bytes) -> None:
        nonlocal sent
        block = b"a" * 65536
        if b"chunked" in framing:
            block = b"10000\r\n" + block + b"\r\n"
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
            while sent < 1_000_000_000:
                sent += connection.send(block)
        finally:
            ended.set()

    started = time.monotonic()
    reply = send(listen(serve).port)
    assert (reply.status, reply.body) == (200, b"a" * 16384)
    assert time.monotonic() - started < 8
    assert ended.wait(5)
    # What the kernel's own buffers took on both sides; the reader had hung up long before.
    assert sent < 32_000_000


@pytest.mark.req("W17")
def test_a_body_stays_packed_when_it_is_a_compressed_bomb(listen):
    bomb = gzip.compress(bytes(10_000_000))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
    assert send(listen(says(head + bomb)).port).body == bomb[:16384]


def test_no_thread_and_no_connection_stays_when_requests_have_ended(listen):
    listener = listen(OK)
    names = {thread.name for thread in threading.enumerate()}
    for _ in range(20):
        send(listener.port, host="hook.example", resolver=lambda *_: ["127.0.0.1"])

    def ours() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name not in names and "_answer" not in t.name]

    wait_for(lambda: not ours(), seconds=5, describe="the end of all helper threads")
    assert listener.connections == 20


# --- how it breaks


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/1.1 banana\r\n\r\n",
        b"\x00" * 100,
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"a" * 70000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_a_broken_answer_is_a_protocol_failure_when_it_is_no_http(listen, answer):
    assert failure(listen(says(answer)).port).kind == "protocol"


def test_the_secret_path_stays_out_of_the_log_when_headers_are_malformed(listen, caplog):
    caplog.set_level(logging.INFO)
    listener = listen(says(b"HTTP/1.1 200 OK\r\nA: b\r\n no colon here\r\nbad\r\nC: d\r\n\r\n"))
    assert send(listener.port).status == 200
    assert SECRET_PATH not in caplog.text


@pytest.mark.parametrize("reads_the_rest", [True, False])
def test_an_early_answer_counts_when_the_receiver_hangs_up_first(listen, reads_the_rest):
    def serve(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        while reads_the_rest and connection.recv(65536):
            pass

    listener = listen(serve, read=False)
    reply = post(f"http://127.0.0.1:{listener.port}/", bytes(30_000_000), {}, allowance=LOOPBACK)
    assert reply.status == 413


def test_a_refused_connection_is_a_connect_failure_when_nobody_listens(listen):
    listener = listen(OK)
    listener.stop()
    assert failure(listener.port).kind == "connect"


@pytest.mark.req("W33")
@pytest.mark.parametrize(
    "error", [socket.gaierror(socket.EAI_NONAME, "Name or service not known"), UnicodeError("label")]
)
def test_a_name_that_cannot_be_resolved_is_a_dns_failure_when_the_resolver_says_so(error):
    def resolver(_host: str, _port: int) -> list[str]:
        raise error

    assert failure(443, scheme="https", host="hook.example", resolver=resolver).kind == "dns"
    assert failure(443, scheme="https", host="hook.example", resolver=lambda *_: []).kind == "dns"


# --- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ServerCertificate:
    return make_certificate(tmp_path_factory.mktemp("tls"), names=("hook.example", "127.0.0.1"))


def trusting(certificate: ServerCertificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate.trust_file))


def to_loopback(_host: str, _port: int) -> list[str]:
    return ["127.0.0.1"]


@pytest.mark.req("W37")
def test_the_certificate_is_checked_against_the_name_when_an_address_is_dialled(listen, certificate):
    listener, client = listen(OK, tls=certificate.context()), trusting(certificate)
    reply = send(listener.port, scheme="https", host="hook.example", resolver=to_loopback, tls=client)
    assert (reply.status, reply.ip) == (204, "127.0.0.1")
    assert listener.server_names == ["hook.example"]
    assert f"Host: hook.example:{listener.port}".encode() in listener.requests[0]
    assert client.check_hostname
    assert client.verify_mode is ssl.CERT_REQUIRED
    assert send(listener.port, scheme="https", host="127.0.0.1", tls=client).status == 204


@pytest.mark.req("W37")
def test_nothing_is_sent_when_the_certificate_names_somebody_else(listen, certificate):
    listener = listen(OK, tls=certificate.context())
    broken = failure(
        listener.port, scheme="https", host="other.example", resolver=to_loopback, tls=trusting(certificate)
    )
    assert broken.kind == "tls"
    assert "other.example" in broken.detail
    assert listener.requests == []


@pytest.mark.req("W37")
def test_nothing_is_sent_when_nobody_known_signed_the_certificate(listen, certificate):
    listener = listen(OK, tls=certificate.context())
    broken = failure(listener.port, scheme="https", host="hook.example", resolver=to_loopback)
    assert broken.kind == "tls"
    assert listener.requests == []


@pytest.mark.req("W37")
def test_nothing_is_sent_when_the_certificate_has_expired(listen, tmp_path: Path):
    certificate = make_certificate(tmp_path, names=("hook.example",), expired=True)
    listener = listen(OK, tls=certificate.context())
    broken = failure(
        listener.port, scheme="https", host="hook.example", resolver=to_loopback, tls=trusting(certificate)
    )
    assert (broken.kind, "expired" in broken.detail) == ("tls", True)
    assert listener.requests == []


@pytest.mark.req("W37")
def test_it_is_a_tls_failure_when_the_receiver_speaks_plain_http(listen):
    listener = listen(says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), read=False)
    assert failure(listener.port, scheme="https").kind == "tls"


@pytest.mark.req("W37")
def test_a_context_is_refused_when_it_does_not_verify(listen, certificate):
    listener = listen(OK, tls=certificate.context())
    careless = ssl.create_default_context()
    careless.check_hostname = False
    blind = ssl.create_default_context()
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE
    for context in (careless, blind):
        with pytest.raises(ValueError, match="verify"):
            send(listener.port, scheme="https", tls=context)
    assert listener.requests == []


@pytest.mark.req("W17")
def test_the_deadline_ends_it_when_a_body_drips_over_tls(listen, certificate):
    listener = listen(drip(b"HTTP/1.1 200 OK\r\n\r\n", b"a"), tls=certificate.context())
    started = time.monotonic()
    broken = failure(listener.port, scheme="https", tls=trusting(certificate), total_seconds=0.3)
    assert broken.kind == "timeout"
    assert 0.29 <= time.monotonic() - started < 8
