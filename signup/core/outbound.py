"""Outgoing HTTP that reaches only what it may, and ends when it must."""

from __future__ import annotations

import functools
import http.client
import logging
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Literal, Self

import urllib3.exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection

from signup.core.addresses import (
    Address,
    Allowance,
    OutboundRefused,
    Target,
    check_addresses,
    check_url,
    parse_target,
)
from signup.core.db import assert_no_transaction

__all__ = ["Allowance", "OutboundFailed", "OutboundRefused", "Reply", "Resolver", "check_url", "get", "post"]

Kind = Literal["dns", "connect", "tls", "timeout", "protocol"]
Resolver = Callable[[str, int], Iterable[str]]

# A name with many dead addresses must not use up the time of the one that lives.
_MAX_ADDRESSES_TRIED = 3

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# These frame the request or route it: they follow from URL and body, never from a setting.
_OWN_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

# On malformed answer headers urllib3 warns with the whole URL, whose path may be the receiver's secret.
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)


class OutboundFailed(Exception):
    """The request did not end in an answer; `kind` says where it broke, `detail` holds no URL and no address."""

    def __init__(self, kind: Kind, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind: Kind = kind
        self.detail = detail


@dataclass(frozen=True)
class Reply:
    """What came back: header names in lower case, the body's first bytes, the address that was connected to."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    ip: str
    milliseconds: int


def post(  # noqa: PLR0913 - each is one limit or part that a caller sets by itself
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    allowance: Allowance,
    resolver: Resolver | None = None,
    connect_seconds: float = 5,
    total_seconds: float = 20,
    max_body: int = 16384,
    tls: ssl.SSLContext | None = None,
) -> Reply:
    """The body was sent once, to an address checked just before; no redirect, retry, proxy or cookie.

    Args:
        headers: added to ours; must not name one that frames or routes the request.
        resolver: (host, port) -> addresses; the system's if None.
        connect_seconds: for all TCP connects together.
        total_seconds: for name, connect, TLS, headers and body together.
        max_body: bytes read of the answer's body at most.
        tls: a context of the caller (own CA, client certificate); ValueError if it does not verify.

    Raises:
        OutboundRefused: the target or a header is not allowed; nothing was sent.
        OutboundFailed: no answer; the receiver may have seen the request nevertheless.

    Rule: OWASP server-side request forgery prevention: resolve once, check all, connect to what was checked.
    """
    assert_no_transaction()
    target = parse_target(url, allowance)
    asked = _Asked("POST", target, _headers(headers, target), body)
    with _Deadline(total_seconds) as deadline:
        return _answered(asked, allowance, deadline, resolver, connect_seconds, max_body, tls)


def get(
    url: str,
    *,
    allowance: Allowance,
    resolver: Resolver | None = None,
    total_seconds: float = 10,
    max_body: int = 16384,
    tls: ssl.SSLContext | None = None,
) -> Reply:
    """What is there was asked for once, under the rules of `post`.

    Raises:
        OutboundRefused, OutboundFailed: as `post` does.
    """
    assert_no_transaction()
    target = parse_target(url, allowance)
    asked = _Asked("GET", target, _headers({}, target), None)
    with _Deadline(total_seconds) as deadline:
        return _answered(asked, allowance, deadline, resolver, total_seconds, max_body, tls)


@dataclass(frozen=True)
class _Asked:
    """One request before it is sent."""

    method: str
    target: Target
    headers: Mapping[str, str]
    body: bytes | None


def _answered(
    asked: _Asked,
    allowance: Allowance,
    deadline: _Deadline,
    resolver: Resolver | None,
    connect_seconds: float,
    max_body: int,
    tls: ssl.SSLContext | None,
) -> Reply:
    target = asked.target
    addresses = check_addresses(target, _answers(target, resolver or _system_resolver, deadline), allowance)
    sock, address = _connected(addresses, target.port, deadline, connect_seconds)
    with sock:
        status, got, content = _exchange(_connection(target, sock, tls), deadline, asked, max_body)
    return Reply(status, got, content, str(address), deadline.spent_milliseconds())


class _Deadline:
    """Ends a connection at a fixed moment, whatever it is doing then.

    Socket time-outs start anew with every byte, so a peer that drips would outlive them: the deadline shuts the
    connection down from outside instead, on a descriptor of its own that TLS wrapping does not take away.
    """

    def __init__(self, seconds: float) -> None:
        self._start = time.monotonic()
        self._end = self._start + seconds
        self._lock = threading.Lock()
        self._watched: socket.socket | None = None
        self._timer: threading.Timer | None = None
        self._cut_off = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            if self._watched is not None:
                self._watched.close()
                self._watched = None

    def spent_milliseconds(self) -> int:
        return int((time.monotonic() - self._start) * 1000)

    def left(self) -> float:
        # Zero would mean "do not block" to a socket.
        return max(self._end - time.monotonic(), 0.001)

    def over(self) -> bool:
        return self._cut_off or time.monotonic() >= self._end

    def watch(self, sock: socket.socket) -> None:
        self._watched = sock.dup()
        self._timer = threading.Timer(self.left(), self._cut)
        self._timer.daemon = True
        self._timer.start()

    def _cut(self) -> None:
        with self._lock:
            self._cut_off = True
            if self._watched is not None:
                with suppress(OSError):
                    self._watched.shutdown(socket.SHUT_RDWR)


class _PlainConnection(HTTPConnection):
    """urllib3's connection over a socket that is already connected, so that no name is resolved a second time."""

    ready: socket.socket

    def _new_conn(self) -> socket.socket:
        return self.ready


class _TlsConnection(HTTPSConnection):
    """The same with TLS; the certificate is checked against the name, not against the address."""

    ready: socket.socket

    def _new_conn(self) -> socket.socket:
        return self.ready


def _headers(given: Mapping[str, str], target: Target) -> dict[str, str]:
    for name, value in given.items():
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN_HEADERS:
            raise OutboundRefused("header", f"The header {name!r} may not be set.")
        if not (value.isascii() and value.isprintable()):
            raise OutboundRefused("header", f"The header {name!r} holds characters that are not allowed.")
    return {"Host": target.host_header, "Connection": "close", "User-Agent": "Signup", **given}


def _system_resolver(host: str, port: int) -> list[str]:
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _answers(target: Target, resolver: Resolver, deadline: _Deadline) -> list[str]:
    if target.literal is not None:
        return [str(target.literal)]
    box: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            box.put(list(resolver(target.host, target.port)))
        except Exception as error:  # carried over to the thread that waits
            box.put(error)

    # getaddrinfo knows no time limit; a thread of its own may outlive the deadline, we do not wait for it.
    threading.Thread(target=ask, daemon=True).start()
    try:
        got = box.get(timeout=deadline.left())
    except queue.Empty:
        raise OutboundFailed("dns", "no answer in time") from None
    if isinstance(got, OSError | UnicodeError):
        raise OutboundFailed("dns", _reason(got)) from got
    if isinstance(got, Exception):
        raise got
    if not got:
        raise OutboundFailed("dns", "no address")
    return got


def _connected(
    addresses: Sequence[Address], port: int, deadline: _Deadline, connect_seconds: float
) -> tuple[socket.socket, Address]:
    """A watched socket to the first address that takes the connection."""
    tried = addresses[:_MAX_ADDRESSES_TRIED]
    ends = time.monotonic() + min(connect_seconds, deadline.left())
    failure: OSError | None = None
    for index, address in enumerate(tried):
        share = (ends - time.monotonic()) / (len(tried) - index)
        sock = socket.socket(socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6)
        try:
            sock.settimeout(max(share, 0.001))
            sock.connect((str(address), port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(deadline.left())
            deadline.watch(sock)
        except OSError as error:
            sock.close()
            failure = error
            continue
        return sock, address
    kind: Kind = "timeout" if isinstance(failure, TimeoutError) else "connect"
    raise OutboundFailed(kind, "no connection in time" if kind == "timeout" else _reason(failure)) from failure


def _connection(target: Target, sock: socket.socket, tls: ssl.SSLContext | None) -> _PlainConnection | _TlsConnection:
    connection: _PlainConnection | _TlsConnection
    if target.scheme == "https":
        context = tls or _default_tls()
        if context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname:
            raise ValueError("the TLS context must verify certificate and host name")
        # Without assert_hostname OpenSSL itself compares the name, and urllib3 leaves the shared context as it is.
        connection = _TlsConnection(target.host, target.port, ssl_context=context, server_hostname=target.host)
    else:
        connection = _PlainConnection(target.host, target.port)
    connection.ready = sock
    return connection


def _exchange(
    connection: _PlainConnection | _TlsConnection,
    deadline: _Deadline,
    asked: _Asked,
    max_body: int,
) -> tuple[int, dict[str, str], bytes]:
    # The body is neither decoded, so that a compressed bomb stays as small as it came, nor read to its end.
    reading = {"preload_content": False, "decode_content": False, "enforce_content_length": False}
    try:
        with _told("tls", deadline):
            connection.connect()
        with _told("protocol", deadline):
            connection.timeout = deadline.left()
            # A receiver may answer, 413 say, and hang up before it has read everything.
            with suppress(BrokenPipeError):
                connection.request(asked.method, asked.target.path, body=asked.body, headers=asked.headers, **reading)
            response = connection.getresponse()
            content = response.read(max_body, decode_content=False)
            got = {name.lower(): value for name, value in response.headers.items()}
            response.close()
    finally:
        connection.close()
    return response.status, got, content


@contextmanager
def _told(kind: Kind, deadline: _Deadline) -> Iterator[None]:
    """What breaks inside becomes OutboundFailed; so does an end that only came because the deadline cut it."""
    try:
        yield
    except (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError) as error:
        if deadline.over() or isinstance(error, TimeoutError | urllib3.exceptions.TimeoutError):
            raise OutboundFailed("timeout", "no complete answer in time") from error
        raise OutboundFailed(kind, _reason(error)) from error
    if deadline.over():
        raise OutboundFailed("timeout", "no complete answer in time")


def _reason(error: Exception | None) -> str:
    for name in ("verify_message", "reason", "strerror"):
        text = getattr(error, name, None)
        if isinstance(text, str) and text:
            return text
    return type(error).__name__


@functools.cache
def _default_tls() -> ssl.SSLContext:
    # Loading the system's certificates takes longer than a request does.
    return ssl.create_default_context()
