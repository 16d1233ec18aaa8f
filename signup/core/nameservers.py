"""Questions to the domain name system, asked of the system's name servers or of those that the operator names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.TXT import TXT

from signup.core.db import assert_no_transaction
from signup.core.sending import Server

# For one question, over all servers and repeats.
TOTAL_SECONDS = 6.0
# What passes every network in one piece.
UDP_BYTES = 1232


class Unanswered(Exception):
    """No name server told whether there is such a record; says why."""


class Resolver(Protocol):
    """Who answers questions about names. A name that does not exist has no records."""

    def txt(self, name: str) -> list[str]: ...

    def addresses(self, name: str) -> list[str]: ...

    def mail_servers(self, name: str) -> list[str]: ...


class NameServers:
    """The resolver that really asks; aliases are followed.

    Args:
        servers: whom to ask; the system's if there is none.
    """

    def __init__(self, servers: Sequence[Server] = ()) -> None:
        self._servers = servers
        self._resolver: dns.resolver.Resolver | None = None

    def txt(self, name: str) -> list[str]:
        """The TXT records of `name`, their pieces joined.

        Rule: RFC 7208 3.3, RFC 6376 3.6.2.2: pieces of one record are joined without a blank.
        """
        found = self._ask(name, dns.rdatatype.TXT)
        return [b"".join(item.strings).decode("utf-8", "replace") for item in found if isinstance(item, TXT)]

    def addresses(self, name: str) -> list[str]:
        return [str(item) for kind in (dns.rdatatype.A, dns.rdatatype.AAAA) for item in self._ask(name, kind)]

    def mail_servers(self, name: str) -> list[str]:
        found = self._ask(name, dns.rdatatype.MX)
        return [str(item.exchange).rstrip(".") for item in found if isinstance(item, MX)]

    def _ask(self, name: str, kind: dns.rdatatype.RdataType) -> list[object]:
        assert_no_transaction()
        try:
            if self._resolver is None:
                self._resolver = self._made()
            return list(self._resolver.resolve(name, kind, search=False))
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, dns.name.LabelTooLong, dns.name.EmptyLabel):
            return []
        except (dns.exception.DNSException, OSError) as error:
            raise Unanswered(f"{name}: {type(error).__name__}") from error

    def _made(self) -> dns.resolver.Resolver:
        made = dns.resolver.Resolver(configure=not self._servers)
        if self._servers:
            made.nameservers = [dns.nameserver.Do53Nameserver(server.host, server.port) for server in self._servers]
        made.lifetime = TOTAL_SECONDS
        # A key of 2048 bits does not fit into what plain answers hold.
        made.use_edns(0, 0, UDP_BYTES)
        return made
