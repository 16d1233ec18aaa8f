"""A real name server on a free loopback port, which knows what the test puts into its zone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


@dataclass
class NameServer:
    """The server; use it through `running_nameserver`.

    `zone` holds lines as in a zone file: `zone["beispiel.example", "TXT"] = ['"v=spf1 -all"']`.
    """

    port: int
    zone: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)  # names that are answered with a failure
    silent: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def put(self, line: str) -> None:
        """Take over a line as somebody would paste it: `name. IN TXT "…" "…"`."""
        name, _in, kind, text = line.split(None, 3)
        self.zone.setdefault((name.rstrip(".").lower(), kind), []).append(text)

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        [question] = query.question
        name, kind = question.name.to_text().rstrip(".").lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        made = dns.message.make_response(query)
        made.flags |= dns.flags.AA
        if name in self.broken:
            made.set_rcode(dns.rcode.SERVFAIL)
        elif texts := self.zone.get((name, kind)):
            made.answer.append(dns.rrset.from_text_list(question.name, 60, "IN", kind, texts))
        elif alias := self.zone.get((name, "CNAME")):
            target = alias[0].rstrip(".").lower()
            made.answer.append(dns.rrset.from_text_list(question.name, 60, "IN", "CNAME", alias))
            if texts := self.zone.get((target, kind)):
                made.answer.append(dns.rrset.from_text_list(alias[0], 60, "IN", kind, texts))
        elif not any(known == name for known, _ in self.zone):
            made.set_rcode(dns.rcode.NXDOMAIN)
        return made


@contextmanager
def running_nameserver() -> Iterator[NameServer]:
    """A name server that listens until the block ends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        server = NameServer(listening.getsockname()[1])
        thread = threading.Thread(target=_serve, args=(server, listening), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            # An empty packet is no question: it ends the loop.
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", ("127.0.0.1", server.port))
            thread.join(10)


def _serve(server: NameServer, listening: socket.socket) -> None:
    while packet := listening.recvfrom(4096):
        content, client = packet
        if not content:
            return
        try:
            query = dns.message.from_wire(content)
        except dns.exception.DNSException:
            continue
        if not server.silent:
            listening.sendto(server.answer(query).to_wire(max_size=4096), client)
