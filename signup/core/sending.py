"""Settings of who may send: how a sender's DNS records are looked up, and what they should say."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

SETTINGS: dict[str, str] = {
    "SIGNUP_SENDER_CHECK": "off (default), or required: no form is published before its sender's DNS records are right",
    "SIGNUP_SENDER_SPF": "SPF term that covers the mail server that sends to the world, such as include:spf.brevo.com",
    "SIGNUP_SENDER_DKIM": "selector with which the mail server itself signs, when we do not",
    "SIGNUP_DNS_SERVERS": "name servers to ask instead of the system's, comma separated, each with its port or without",
}

OFF, REQUIRED = "off", "required"
DNS_PORT = 53
SELECTOR = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_SPF_TERM = re.compile(r"(?:include|a|mx|exists):[A-Za-z0-9._-]{1,253}|a|mx|ip4:[0-9./]{7,18}|ip6:[0-9A-Fa-f:./]{2,49}")


@dataclass(frozen=True)
class Server:
    """One name server."""

    host: str  # an address, not a name
    port: int


@dataclass(frozen=True)
class SendingConfig:
    """What a sender has to show before it may be used; by default nothing, so that a machine without DNS works."""

    check: str = OFF
    spf: str | None = None
    dkim_selector: str | None = None
    dns_servers: tuple[Server, ...] = ()

    @property
    def required(self) -> bool:
        return self.check == REQUIRED


def read(text: Callable[[str], str | None], problems: list[str]) -> SendingConfig:
    """The settings; what is wrong with them is added to `problems`.

    Args:
        text: a setting by its name, or by the file that its name with _FILE points to.
    """
    check = text("SIGNUP_SENDER_CHECK") or OFF
    if check not in (OFF, REQUIRED):
        problems.append(f"SIGNUP_SENDER_CHECK must be {OFF} or {REQUIRED}")
    spf, selector = text("SIGNUP_SENDER_SPF"), text("SIGNUP_SENDER_DKIM")
    if spf and not _SPF_TERM.fullmatch(spf):
        problems.append("SIGNUP_SENDER_SPF must be one SPF term, such as include:spf.example.net or ip4:192.0.2.1")
    if selector and not SELECTOR.fullmatch(selector):
        problems.append("SIGNUP_SENDER_DKIM must be the name of a DKIM selector, such as s1")
    return SendingConfig(check, spf, selector, _servers(text("SIGNUP_DNS_SERVERS") or "", problems))


def _servers(text: str, problems: list[str]) -> tuple[Server, ...]:
    found = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        host, _, port = part.rpartition(":") if part.count(":") == 1 or "]:" in part else (part, "", str(DNS_PORT))
        host = host.strip("[]")
        try:
            ipaddress.ip_address(host)
            if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError
        except ValueError:
            problems.append("SIGNUP_DNS_SERVERS must hold addresses such as 192.0.2.53 or [2001:db8::53]:5353")
            return ()
        found.append(Server(host, int(port)))
    return tuple(found)
