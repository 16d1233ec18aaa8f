"""What the domain of an address says: thrown away tomorrow, shared by millions, or one letter beside a known one."""

from __future__ import annotations

from functools import lru_cache


def _listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Where millions have their mailbox, so many sign-ups an hour are ordinary.
FREEMAIL = _listed(
    "aol.com aol.de bluewin.ch freenet.de gmail.com gmx.at gmx.ch gmx.de gmx.net googlemail.com hotmail.com hotmail.de "
    "icloud.com live.com live.de mail.de mailbox.org me.com msn.com outlook.com outlook.de posteo.de proton.me "
    "protonmail.com t-online.de web.de yahoo.com yahoo.de ymail.com"
)
# Relays hide an address and deliver for good: who uses one is careful, not fake.
RELAYS = _listed(
    "privaterelay.appleid.com duck.com mozmail.com relay.firefox.com simplelogin.com simplelogin.co aleeas.com "
    "slmails.com silomails.com slmail.me passmail.net addy.io anonaddy.com anonaddy.me"
)
# The mailboxes that people in Germany, Austria and Switzerland mean when they are one letter off.
_MEANT = sorted(
    _listed(
        "gmx.de gmx.net gmx.at gmx.ch web.de t-online.de freenet.de posteo.de mailbox.org outlook.de outlook.com "
        "hotmail.com hotmail.de gmail.com googlemail.com icloud.com yahoo.de yahoo.com aol.com arcor.de bluewin.ch "
        "hispeed.ch sunrise.ch a1.net aon.at chello.at vodafone.de"
    )
)
# One letter beside a known one, and real.
_REAL = FREEMAIL | _listed(
    "gmail.de gmail.ch gmail.at mail.com gmx.com gmx.eu gmx.org web.com outlook.at outlook.ch hotmail.at hotmail.ch "
    "yahoo.at yahoo.ch aol.at icloud.de email.com email.de ymail.de mail.ch gmx.fr gmx.it gmx.us a2.net b1.net"
)
# Who reads these must be reachable, and never signs up for anything.
ROLES = frozenset({"abuse", "postmaster"})


def is_role(comparable: str) -> bool:
    """Whether an address belongs to an office that must not be mailed.

    Rule: RFC 2142 2 and 5.
    """
    return comparable.rpartition("@")[0].partition("+")[0] in ROLES


def is_disposable(domain: str) -> bool:
    """Whether a mailbox there is thrown away after use. Relays deliver for good and are never meant."""
    return not _covered(domain, RELAYS) and _covered(domain, _disposable())


def _covered(domain: str, listed: frozenset[str]) -> bool:
    parts = domain.split(".")
    return any(".".join(parts[start:]) in listed for start in range(len(parts) - 1))


@lru_cache(maxsize=1)
def _disposable() -> frozenset[str]:
    """Domains that count with all below them. A process reads the ten thousand lines once, when first asked."""
    from disposable_email_domains import blocklist

    return frozenset(blocklist)


def meant(domain: str) -> str | None:
    """The known domain that `domain` is one slip away from, or None. Nothing is ever corrected by itself."""
    if domain in _REAL or domain in _MEANT:
        return None
    return next((known for known in _MEANT if _one_slip(domain, known)), None)


def _one_slip(typed: str, known: str) -> bool:
    """Whether one letter is missing, added, wrong or swapped with its neighbour.

    Rule: Damerau's distance of one.
    """
    if abs(len(typed) - len(known)) > 1:
        return False
    start = next(
        (at for at, (a, b) in enumerate(zip(typed, known, strict=False)) if a != b), min(len(typed), len(known))
    )
    rest, wanted = typed[start:], known[start:]
    swapped = len(rest) > 1 and rest[1::-1] + rest[2:] == wanted
    return swapped or rest[1:] == wanted[1:] or rest[1:] == wanted or rest == wanted[1:]
