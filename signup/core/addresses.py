"""Where outgoing requests may go: URLs, the operator's allowance, and which addresses count as public."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from signup.core.errors import Invalid

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Long enough for every receiver seen in practice, short enough to store and show.
MAX_URL_CHARACTERS = 2048

_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
_DEFAULT_PORTS = {"http": 80, "https": 443}

# The Fetch standard's "bad ports": other protocols that an HTTP request could be made to speak.
# fmt: off
_PORTS_OF_OTHER_PROTOCOLS = frozenset({
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
    111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532,
    540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061,
    6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
})
# fmt: on

# ipaddress.is_global says yes to relays and to addresses that carry another one inside, so the lists are our own.
_CLOSED_IPV4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata service lives here
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's platform service: a public number that is answered inside the virtual network
        "169.254.0.0/16",  # link-local; most clouds' metadata service
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata service
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # multicast tunnelling relay
        "192.88.99.0/24",  # 6to4 relay
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved and broadcast
    )
)
# Only this block is handed out as global unicast. Loopback, mapped and compatible IPv4, NAT64, unique local,
# link-local, site-local, segment routing and multicast all lie outside of it.
_GLOBAL_IPV6 = IPv6Network("2000::/3")
_CLOSED_IPV6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4 carries an IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
# ISATAP interface identifiers end in an IPv4 address of the inner network.
_ISATAP_MARKS = (0x00005EFE, 0x02005EFE)


class OutboundRefused(Invalid):
    """The URL, a header or an address that its name stands for is not one we may reach."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail, errors=[{"field": "url", "code": code, "message": detail}], code=code)
        self.detail = detail


def is_public(address: Address) -> bool:
    """True for an address that anybody on the internet may reach, and that carries no other address inside.

    Rule: IANA special-purpose address registries (RFC 6890, RFC 8190).
    """
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _CLOSED_IPV4)
    if address not in _GLOBAL_IPV6 or any(address in network for network in _CLOSED_IPV6):
        return False
    return address.is_global and (int(address) >> 32) & 0xFFFFFFFF not in _ISATAP_MARKS


@dataclass(frozen=True)
class Allowance:
    """Networks and hosts that the operator lets outgoing requests reach though private, and by http:// too."""

    networks: tuple[Network, ...] = ()
    hosts: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, entries: Iterable[str]) -> Allowance:
        """Every entry is a network or a host of the allowance.

        Args:
            entries: CIDRs ("10.1.0.0/16"), single addresses or exact host names ("crm.intern").

        Raises:
            ValueError: names the entry that is neither.
        """
        networks: list[Network] = []
        hosts: set[str] = set()
        for entry in (text.strip() for text in entries):
            network = _network(entry)
            if network is not None:
                networks.append(network)
            else:
                hosts.add(_host_entry(entry))
        return cls(tuple(networks), frozenset(hosts))

    def covers(self, host: str, address: Address) -> bool:
        """True if the operator allows this host or this address."""
        # No single machine answers on these, so no entry can have meant them.
        if address.is_multicast or address.is_unspecified or address == IPv4Address("255.255.255.255"):
            return False
        return host in self.hosts or any(address in network for network in self.networks)


@dataclass(frozen=True)
class Target:
    """A URL whose form is fine. `host` is ASCII and lower case, or the usual spelling of `literal`."""

    scheme: str
    host: str
    port: int
    path: str
    literal: Address | None

    @property
    def host_header(self) -> str:
        """The value of `Host`: with the port unless it is the scheme's own (RFC 9110 section 7.2)."""
        host = f"[{self.host}]" if isinstance(self.literal, IPv6Address) else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def check_url(url: str, allowance: Allowance) -> None:
    """The URL may be saved as a target. Its name is not resolved: that is checked at each connect.

    Raises:
        OutboundRefused: scheme, user info, characters, host, port or literal address are not allowed.
    """
    parse_target(url, allowance)


def parse_target(url: str, allowance: Allowance) -> Target:
    """The parts of a URL whose form, and whose address if it names one, is allowed.

    Raises:
        OutboundRefused: as for `check_url`.
    """
    if len(url) > MAX_URL_CHARACTERS:
        raise OutboundRefused("length", f"The URL is longer than {MAX_URL_CHARACTERS} characters.")
    if any(not char.isprintable() or char.isspace() or char == "\\" for char in url):
        raise OutboundRefused("control", "The URL holds spaces, backslashes or control characters.")
    scheme, mark, rest = url.partition("://")
    scheme = scheme.lower()
    if not mark or scheme not in _DEFAULT_PORTS:
        raise OutboundRefused("scheme", "The URL must start with https://.")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        raise OutboundRefused("userinfo", "The URL may not hold a user name or password.")
    if "%" in authority:
        raise OutboundRefused("host", "The host may not be percent-encoded or name a zone.")
    target = _target(url, scheme)
    _check_early(target, allowance)
    return target


def check_addresses(target: Target, answers: Iterable[str], allowance: Allowance) -> Sequence[Address]:
    """Every answer may be reached: what is connected to must come out of this list.

    Raises:
        OutboundRefused: if any one of them may not, however good the others are.
    """
    # Which address it was stays unsaid: the answer would map the inner network for whoever may save a URL.
    addresses = [ip_address(answer) for answer in answers]
    for address in addresses:
        if allowance.covers(target.host, address):
            continue
        if not is_public(address):
            raise OutboundRefused("address", "The host is, or resolves to, an address that is not public.")
        if target.scheme != "https":
            raise OutboundRefused("scheme", "The URL must start with https://.")
    return addresses


def _network(entry: str) -> Network | None:
    try:
        if "%" not in entry:
            return ip_network(entry)
    except ValueError:
        if "/" in entry or ":" in entry:
            raise ValueError(f"{entry!r} is not a network such as 10.0.0.0/8") from None
    return None


def _host_entry(entry: str) -> str:
    name = entry.lower().removesuffix(".")
    if not _HOST.fullmatch(name) or len(name) > 253 or _NUMERIC_LABEL.fullmatch(name.rpartition(".")[2]):
        raise ValueError(f"{entry!r} is neither a network nor a host name")
    return name


def _target(url: str, scheme: str) -> Target:
    try:
        parts = parse_url(url)
    except LocationParseError:
        raise OutboundRefused("host", "The host or port of the URL cannot be read.") from None
    port = _DEFAULT_PORTS[scheme] if parts.port is None else parts.port
    if not 0 < port <= 65535 or port in _PORTS_OF_OTHER_PROTOCOLS:
        raise OutboundRefused("port", f"Port {port} is not one for HTTP.")
    host = (parts.host or "").lower().removesuffix(".")
    literal = _literal(host)
    if literal is None and (not _HOST.fullmatch(host) or len(host) > 253):
        raise OutboundRefused("host", "The URL has no valid host name.")
    return Target(scheme, str(literal or host), port, parts.request_uri, literal)


def _literal(host: str) -> Address | None:
    """The address a host spells out, in any form that a resolver would take for one; None for a name."""
    try:
        if host.startswith("["):
            return IPv6Address(host.strip("[]"))
        if _NUMERIC_LABEL.fullmatch(host.rpartition(".")[2]):
            return IPv4Address(socket.inet_aton(host))
    except (ValueError, OSError):
        raise OutboundRefused("host", "The host is not a valid IP address.") from None
    return None


def _check_early(target: Target, allowance: Allowance) -> None:
    """Refuse now what no answer of a resolver could make good later."""
    if target.literal is not None:
        check_addresses(target, [str(target.literal)], allowance)
        return
    if target.host in allowance.hosts or allowance.networks:
        return
    if target.scheme != "https":
        raise OutboundRefused("scheme", "The URL must start with https://.")
    if target.host == "localhost" or target.host.endswith(".localhost"):
        raise OutboundRefused("address", "The host is, or resolves to, an address that is not public.")
