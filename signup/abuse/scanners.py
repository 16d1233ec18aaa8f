"""Machines that open mailed links and forms: told apart for evidence and statistics. A label decides nothing."""

from __future__ import annotations

import ipaddress
import re
from enum import Enum

# Mail gateways fetch links when a mail comes in, most within half a minute. A person needs the mailbox first.
EARLY_SECONDS = 60

_AGENTS = re.compile(
    r"barracuda|proofpoint|mimecast|safelinks|mcafee|trend ?micro|symantec|fortinet|sophos|forcepoint|urlscan"
    r"|bot\b|crawler|spider|preview|python-|curl/|wget/|go-http-client|java/|okhttp|headless"
    # Link previews, monitors, archives and the HTTP libraries of the usual languages.
    r"|facebookexternalhit|whatsapp|embedly|scrapy|axios|node-fetch|undici|aiohttp|libwww|lighthouse|pingdom|uptime"
    r"|ia_archiver|slurp",
    re.IGNORECASE,
)
# Networks that mail gateways are known to fetch from: Barracuda, Proofpoint, Mimecast, Microsoft's mail protection.
_NETWORKS = tuple(
    ipaddress.ip_network(text)
    for text in (
        "64.235.144.0/20",
        "209.222.80.0/21",
        "67.231.144.0/20",
        "148.163.128.0/19",
        "205.139.110.0/24",
        "207.211.31.0/25",
        "40.92.0.0/15",
        "40.107.0.0/16",
        "52.100.0.0/14",
        "104.47.0.0/17",
    )
)


class Sign(Enum):
    """What gave a machine away."""

    METHOD = "method"  # only asked for the headers
    AGENT = "user-agent"
    NETWORK = "network"
    EARLY = "early"  # sooner after the mail left than people read


def sign_of(method: str, user_agent: str, ip: str, seconds_since_sent: int | None) -> Sign | None:
    """The plainest sign that a machine opened the link, or None. Who is a person shows by pressing the button."""
    if method == "HEAD":
        return Sign.METHOD
    if not user_agent or _AGENTS.search(user_agent):
        return Sign.AGENT
    if _is_gateway(ip):
        return Sign.NETWORK
    early = seconds_since_sent is not None and seconds_since_sent < EARLY_SECONDS
    return Sign.EARLY if early else None


def is_person(method: str, user_agent: str, ip: str, loads_ahead: str) -> bool:
    """Whether nothing says that a machine asks for a page: then it counts as seen.

    Args:
        loads_ahead: what the browser says of its purpose; it may load what nobody ever looks at.
    """
    return sign_of(method, user_agent, ip, None) is None and "prefetch" not in loads_ahead.lower()


def _is_gateway(ip: str) -> bool:
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return False
    return address.version == 4 and any(address in network for network in _NETWORKS)


def label(sign: Sign | None) -> dict[str, object]:
    """The disclosures of an opening."""
    return {"scanner": sign is not None, "scanner_sign": sign.value if sign else None}
