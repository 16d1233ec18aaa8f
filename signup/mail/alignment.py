"""Whether a sender's DNS records let mail servers believe our mails, and which lines would.

Rule: RFC 7208 (SPF), RFC 6376 (DKIM), RFC 7489 3.1 (DMARC: one of the two has to speak for the domain in From).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from signup.core.nameservers import Resolver, Unanswered
from signup.mail.dkim import record_strings

# RFC 7208 4.6.4: a receiver gives up on more.
MAX_LOOKUPS = 10
_ASKING = ("include", "a", "mx", "ptr", "exists", "redirect")
POLICIES = ("none", "quarantine", "reject")
# What all others get: a hint at first, so that a forgotten mail server is found before its mails are lost.
SOFT_FAIL = "~all"


class Verdict(Enum):
    FOUND = "found"
    MISSING = "missing"
    WRONG = "wrong"
    UNKNOWN = "unknown"  # no name server answered


@dataclass(frozen=True)
class Finding:
    """What one record says.

    Args:
        record: spf, dkim or dmarc.
        name: where it was looked up.
        text: what was found, or what is wrong.
        line: what to put into the zone; empty when nothing would help there.
    """

    record: str
    verdict: Verdict
    name: str
    text: str
    line: str = ""


@dataclass(frozen=True)
class DkimRecord:
    """The record that a receiver will look up.

    Args:
        text: what it has to say; empty when somebody else signs, whose key we do not know.
    """

    domain: str
    name: str
    text: str


@dataclass(frozen=True)
class Sender:
    """How a controller's mails present themselves to the world.

    Args:
        domain: of the From address.
        return_domain: of the return path, for which SPF speaks.
        spf_term: what has to be in the SPF record; empty when nobody knows which server sends.
    """

    domain: str
    return_domain: str
    spf_term: str
    dkim: DkimRecord | None


def check(sender: Sender, ask: Resolver) -> list[Finding]:
    """What the records of this sender say: SPF, DKIM, DMARC. Talks to the network."""
    dmarc, strict = _answered("dmarc", f"_dmarc.{sender.domain}", lambda: _dmarc(sender, ask))
    spf, _ = _answered("spf", sender.return_domain, lambda: (_spf(sender, ask, strict=strict.get("aspf") == "s"), {}))
    name = sender.dkim.name if sender.dkim else f"*._domainkey.{sender.domain}"
    dkim, _ = _answered("dkim", name, lambda: (_dkim(sender, ask, strict=strict.get("adkim") == "s"), {}))
    return [spf, dkim, dmarc]


def passed(findings: list[Finding]) -> bool:
    return all(finding.verdict is Verdict.FOUND for finding in findings)


Tags = dict[str, str]


def _answered(record: str, name: str, look: Callable[[], tuple[Finding, Tags]]) -> tuple[Finding, Tags]:
    try:
        return look()
    except Unanswered as error:
        return Finding(record, Verdict.UNKNOWN, name, f"no name server answered ({error})"), {}


def zone_line(name: str, text: str) -> str:
    return f"{name}. IN TXT " + " ".join(f'"{part}"' for part in record_strings(text))


def _aligned(domain: str, other: str, *, strict: bool) -> bool:
    """Whether one domain speaks for the other; relaxed, a parent or a subdomain does."""
    one, two = domain.lower(), other.lower()
    return one == two or (not strict and (one.endswith(f".{two}") or two.endswith(f".{one}")))


def tags(record: str) -> Tags:
    """`a=b; c=d` as a mapping, names in small letters."""
    pairs = (part.partition("=") for part in record.split(";") if "=" in part)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _dmarc(sender: Sender, ask: Resolver) -> tuple[Finding, Tags]:
    own = f"_dmarc.{sender.domain}"
    line = zone_line(own, "v=DMARC1; p=none")
    for domain in _upwards(sender.domain):
        name = f"_dmarc.{domain}"
        records = [text for text in ask.txt(name) if text.replace(" ", "").lower().startswith("v=dmarc1")]
        if len(records) > 1:
            return Finding("dmarc", Verdict.WRONG, name, "several records: none of them counts", line), {}
        if records:
            said = tags(records[0])
            policy = said.get("sp", said.get("p", "")) if domain != sender.domain else said.get("p", "")
            if policy.lower() not in POLICIES:
                return Finding("dmarc", Verdict.WRONG, name, f"no policy: {records[0]}", line), {}
            return Finding("dmarc", Verdict.FOUND, name, records[0]), said
    return Finding("dmarc", Verdict.MISSING, own, "no record, none above it either", line), {}


def _upwards(domain: str) -> Iterator[str]:
    """The domain and those above it, down to two labels: a country or `com` speaks for nobody."""
    labels = domain.split(".")
    for start in range(max(1, len(labels) - 1)):
        yield ".".join(labels[start:])


def _dkim(sender: Sender, ask: Resolver, *, strict: bool) -> Finding:
    wanted = sender.dkim
    if wanted is None:
        text = "mails are not signed: flask mail dkim-key makes a key, SIGNUP_SENDER_DKIM names one of the mail server"
        return Finding("dkim", Verdict.MISSING, f"*._domainkey.{sender.domain}", text)
    line = zone_line(wanted.name, wanted.text) if wanted.text else ""
    if not _aligned(wanted.domain, sender.domain, strict=strict):
        text = f"signed for {wanted.domain}, which does not speak for {sender.domain}: make a key for the new sender"
        return Finding("dkim", Verdict.WRONG, wanted.name, text)
    records = [tags(text) for text in ask.txt(wanted.name)]
    keys = [said for said in records if "p" in said]
    if not keys:
        return Finding("dkim", Verdict.MISSING, wanted.name, "no record", line)
    if len(keys) > 1:
        return Finding("dkim", Verdict.WRONG, wanted.name, "several records: remove all but one", line)
    public, own = "".join(keys[0]["p"].split()), tags(wanted.text).get("p")
    if not public:
        return Finding("dkim", Verdict.WRONG, wanted.name, "the key was revoked: p= is empty", line)
    if own is not None and (public != own or keys[0].get("k", "rsa") != tags(wanted.text)["k"]):
        return Finding("dkim", Verdict.WRONG, wanted.name, "another key than the one that signs", line)
    return Finding("dkim", Verdict.FOUND, wanted.name, f"the key of {wanted.name.partition('.')[0]}")


@dataclass
class _Allowed:
    """Whom an SPF record lets send, with all records that it includes."""

    terms: set[str] = field(default_factory=set)
    networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = field(default_factory=list)
    lookups: int = 0
    everybody: bool = False
    broken: str = ""


def _spf(sender: Sender, ask: Resolver, *, strict: bool) -> Finding:
    name, term = sender.return_domain, sender.spf_term
    if not _aligned(name, sender.domain, strict=strict):
        text = f"mails return to {name}, which does not speak for {sender.domain}: SIGNUP_BOUNCE_ADDRESS in its domain"
        return Finding("spf", Verdict.WRONG, name, text)
    records = _spf_records(ask, name)
    if not records:
        line = zone_line(name, f"v=spf1 {term} {SOFT_FAIL}") if term else ""
        return Finding("spf", Verdict.MISSING, name, "no record" if term else f"no record; {_WHO}", line)
    # Several are mended by one that says what all say.
    said = " ".join(["v=spf1", *(part for record in records for part in record.split()[1:])])
    if len(records) > 1:
        return Finding("spf", Verdict.WRONG, name, "several records: none counts", zone_line(name, _with(said, term)))
    allowed = _Allowed()
    _follow(ask, name, said, allowed, top=True)
    if wrong := allowed.broken or ("it lets everybody send" if allowed.everybody else ""):
        line = zone_line(name, _with(said, term)) if allowed.everybody else ""
        return Finding("spf", Verdict.WRONG, name, f"{wrong}: {records[0]}", line)
    if not term:
        return Finding("spf", Verdict.WRONG, name, f"{records[0]}; {_WHO}")
    if not _covers(ask, term, allowed):
        text = f"the mail server ({term}) is not in it: {records[0]}"
        return Finding("spf", Verdict.WRONG, name, text, zone_line(name, _with(said, term)))
    return Finding("spf", Verdict.FOUND, name, records[0])


_WHO = "nobody said which server sends to the world: SIGNUP_SENDER_SPF"


def _spf_records(ask: Resolver, name: str) -> list[str]:
    return sorted(text for text in ask.txt(name) if text.lower() == "v=spf1" or text.lower().startswith("v=spf1 "))


def _with(record: str, term: str) -> str:
    """The record with one term more, before what it says of all others, which is never that everybody may send."""
    parts = record.split()[1:]
    last = [part for part in parts if part.lower().startswith("redirect=") or _is_all(part)]
    ends = [part for part in last if part.lower() not in ("all", "+all", "?all", SOFT_FAIL)][-1:]
    if not ends or SOFT_FAIL in last:
        ends = [SOFT_FAIL]
    kept = list(dict.fromkeys([part for part in parts if part not in last] + ([term] if term else [])))
    return " ".join(["v=spf1", *kept, *ends])


def _is_all(part: str) -> bool:
    return part.lower().lstrip("+-~?") == "all"


def _follow(ask: Resolver, domain: str, record: str, allowed: _Allowed, *, top: bool) -> None:
    """What the record lets send is in `allowed`."""
    for part in record.split()[1:]:
        if _is_all(part):
            allowed.everybody |= top and part[0] not in "-~?"
            return  # nothing behind it counts
        qualifier, plain = (part[0], part[1:]) if part[0] in "+-~?" else ("+", part)
        # What passes counts; what a record says against somebody lets nobody send.
        if qualifier != "+" or allowed.broken:
            continue
        kind, _, value = plain.replace("redirect=", "redirect:", 1).partition(":")
        kind = kind.partition("/")[0].lower()
        allowed.lookups += kind in _ASKING
        if allowed.lookups > MAX_LOOKUPS:
            allowed.broken = f"more than {MAX_LOOKUPS} questions, and receivers give up"
            return
        allowed.terms.add(plain.lower())
        if kind in ("include", "redirect"):
            _follow_other(ask, value, allowed, top=top and kind == "redirect")
        else:
            allowed.networks += _networks(ask, domain, kind, value)


def _follow_other(ask: Resolver, domain: str, allowed: _Allowed, *, top: bool) -> None:
    if "%" in domain:
        return  # depends on who receives what; nothing to look up
    records = _spf_records(ask, domain)
    if len(records) != 1:
        allowed.broken = f"{domain}, which it names, has {len(records) or 'no'} SPF records"
        return
    _follow(ask, domain, records[0], allowed, top=top)


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(ask: Resolver, domain: str, kind: str, value: str) -> list[Network]:
    if kind in ("ip4", "ip6"):
        return _parsed(value)
    if kind not in ("a", "mx") or "%" in value:
        return []
    host = value.partition("/")[0] or domain
    hosts = ask.mail_servers(host)[:MAX_LOOKUPS] if kind == "mx" else [host]
    return [network for name in hosts for address in ask.addresses(name) for network in _parsed(address)]


def _parsed(text: str) -> list[Network]:
    try:
        return [ipaddress.ip_network(text, strict=False)]
    except ValueError:
        return []


def _covers(ask: Resolver, term: str, allowed: _Allowed) -> bool:
    """Whether the term stands in the record, or all that it stands for may send anyway."""
    if term.lower() in allowed.terms:
        return True
    kind, _, value = term.partition(":")
    wanted = _networks(ask, value, kind.lower(), value)
    return bool(wanted) and all(any(_inside(one, other) for other in allowed.networks) for one in wanted)


def _inside(one: Network, other: Network) -> bool:
    return one.version == other.version and one.network_address in other and one.prefixlen >= other.prefixlen
