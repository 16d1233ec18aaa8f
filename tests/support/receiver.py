"""A real HTTP receiver on a free loopback port that answers as the test tells it to."""

import io
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.waiting import wait_for


@dataclass(frozen=True)
class Request:
    """One request as it came in; header names are lower case, the body is the exact bytes."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What the receiver says; the last four make it misbehave."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    drip_seconds: float | None = None  # the body goes out one byte at a time, so far apart
    drip_headers_seconds: float | None = None  # the header lines too
    endless: bool = False  # the body goes on until the client hangs up
    hang: bool = False  # no answer until the receiver stops


def redirect(to: str, status: int = 302) -> Answer:
    return Answer(status, {"Location": to})


def retry_after(value: str, status: int = 429) -> Answer:
    return Answer(status, {"Retry-After": value})


class Receiver:
    """The server; use it through `running_receiver`."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.answers: list[Answer] = []  # taken in order; when none is left, `default` is used
        self.default = Answer(200)
        self.sent_bytes = 0
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(self)
        self._server.server_activate()
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def wait(self, count: int = 1, *, seconds: float = 10.0) -> list[Request]:
        """At least `count` requests, in the order they were read."""
        return wait_for(
            lambda: self.requests[:] if len(self.requests) >= count else None,
            seconds=seconds,
            describe=f"{count} requests ({len(self.requests)} before)",
        )

    def take(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            return self.answers.pop(0) if self.answers else self.default

    def start(self) -> None:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def go_down(self) -> None:
        """New connections are refused; nobody else can take the port meanwhile."""
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()
        # Bound and not listening: a connection is refused.
        self._server = _Server(self, self.port)

    def come_up(self) -> None:
        """Requests are answered again, on the same port."""
        self._server.server_activate()
        self.start()

    def stop(self) -> None:
        self.stopping.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(5)
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, owner: Receiver, port: int = 0) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", port), _Handler, bind_and_activate=False)
        self.server_bind()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what many of these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """The test reads `requests`; the terminal stays quiet."""

    def handle_one_request(self) -> None:
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().handle_one_request()

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.owner.take(Request(self.command, self.path, headers, body))
        if answer.hang:
            self.server.owner.stopping.wait()
            self.close_connection = True
            return
        self._send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _any

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.endless:
            self.close_connection = True
        elif "Content-Length" not in answer.headers:
            self.send_header("Content-Length", str(len(answer.body)))
        if answer.drip_headers_seconds is not None:
            self._drip_head(answer.drip_headers_seconds)
        else:
            self.end_headers()
        if answer.endless:
            self._send_endlessly()
        elif answer.drip_seconds is not None:
            self._drip(answer.body, answer.drip_seconds)
        elif self.command != "HEAD":
            self.wfile.write(answer.body)

    def _drip_head(self, seconds: float) -> None:
        # end_headers() writes what was collected; it is caught on the way to the socket.
        socket_file, caught = self.wfile, io.BytesIO()
        self.wfile = caught
        self.end_headers()
        self.wfile = socket_file
        self._drip(caught.getvalue(), seconds)

    def _drip(self, content: bytes, seconds: float) -> None:
        for index in range(len(content)):
            self.wfile.write(content[index : index + 1])
            if self.server.owner.stopping.wait(seconds):
                return

    def _send_endlessly(self) -> None:
        block = b"x" * 65536
        while not self.server.owner.stopping.is_set():
            self.wfile.write(block)
            self.server.owner.sent_bytes += len(block)


@contextmanager
def running_receiver(*answers: Answer, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver for as long as the block runs; `answers` are given in order, then 200."""
    receiver = Receiver(tls)
    receiver.answers.extend(answers)
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.stop()
