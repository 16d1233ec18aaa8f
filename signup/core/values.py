"""Small frozen values that are valid once they exist."""

from __future__ import annotations

import ipaddress
import os
import re
import threading
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import email_validator
from email_validator import EmailNotValidError, validate_email

from signup.core.errors import Invalid

LOCALES = ("de", "en")
MAX_ADDRESS_CHARACTERS = 254  # RFC 5321 4.5.3.1.3, less the angle brackets
# Mail to a reserved test domain is as dead as to a mistyped one; a page must not tell them apart.
email_validator.SPECIAL_USE_DOMAIN_NAMES[:] = ["arpa", "local", "localhost", "onion"]
_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
# Two characters at a time: ids are made nine to a sign-up.
_PAIRS = [first + second for first in _CROCKFORD for second in _CROCKFORD]
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def utc_now() -> datetime:
    """The time to pass inwards from the edge: aware, UTC, whole milliseconds."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


@lru_cache(maxsize=256)
def rfc3339(moment: datetime) -> str:
    """`moment` as RFC 3339 in UTC with milliseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


# A clock of somebody else may be this far ahead of ours.
AHEAD = timedelta(minutes=5)
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def has_happened(moment: datetime, now: datetime) -> bool:
    """Whether a program may say that something was at `moment`: not ahead, and not before there were such programs."""
    return LONG_AGO <= moment <= now + AHEAD


_id_lock = threading.Lock()
_last_id = 0


def new_id(prefix: str, now: datetime) -> str:
    """A fresh identifier that sorts by time: prefix, underscore, 48 bits of ms and 80 random bits in base32.

    Of two ids made by one process in the same millisecond the later one sorts later, so that events of one
    commit keep their order.
    """
    global _last_id  # noqa: PLW0603 - the order of ids is a property of the process
    millisecond = int(now.timestamp() * 1000) << 80
    with _id_lock:
        if _last_id >> 80 == millisecond >> 80:
            number = _last_id + 1 + int.from_bytes(os.urandom(5), "big")
        else:
            # The top bit stays free, so that counting on from here never reaches the next millisecond.
            number = millisecond | int.from_bytes(os.urandom(10), "big") >> 1
        _last_id = number
    return _spelled(prefix, number)


def first_id(prefix: str, moment: datetime) -> str:
    """Sorts before every identifier with this prefix that was made at `moment` or later, and after all older ones."""
    return _spelled(prefix, int(moment.timestamp() * 1000) << 80)


def made_at(ident: str) -> datetime | None:
    """When an identifier was made; None when it is not one of ours."""
    text = ident.rpartition("_")[2]
    if len(text) != 26 or not set(text) <= set(_CROCKFORD):
        return None
    number = 0
    for letter in text:
        number = number * 32 + _CROCKFORD.index(letter)
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=number >> 80)
    except OverflowError:
        return None


def _spelled(prefix: str, number: int) -> str:
    return prefix + "_" + "".join([_PAIRS[(number >> shift) & 1023] for shift in range(120, -1, -10)])


@dataclass(frozen=True)
class EmailAddress:
    """An address as typed and as compared. Dots and plus tags stay: they belong to the person."""

    typed: str
    normalised: str  # IDNA domain in lower case; the local part keeps its case

    @classmethod
    def parse(cls, text: str) -> EmailAddress:
        """Return the checked address in `text`; surrounding blanks are dropped.

        Raises:
            Invalid: with one error for the field `email` that says what to mend.
            Rule: RFC 5321 4.1.2, RFC 5891 for the domain. No lookup: the request must not wait for DNS.
        """
        typed = unicodedata.normalize("NFC", text.strip(" \t"))
        if not typed:
            raise _address_error("required")
        if len(typed) > MAX_ADDRESS_CHARACTERS:
            raise _address_error("too_long")
        if _CONTROL.search(typed):
            raise _address_error("invalid")
        try:
            checked = validate_email(typed, check_deliverability=False, strict=True)
        except EmailNotValidError as error:
            raise _address_error("missing_at" if "@" not in typed else "invalid") from error
        if checked.ascii_domain.rpartition(".")[2].isdigit():
            raise _address_error("invalid")
        if checked.ascii_email is None:
            raise _address_error("non_ascii_local")
        return cls(typed=typed, normalised=checked.ascii_email)

    @property
    def comparable(self) -> str:
        """What two spellings of one mailbox share; only for keyed hashes, never shown or mailed."""
        return self.normalised.lower()

    @property
    def masked(self) -> str:
        return mask(self.normalised)


def plain_ip(text: str) -> str:
    """One spelling of a client's address: no port, no brackets, version 4 as such; what is no address stays."""
    host = text.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return clean_text(text, 60)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def mask(address: str) -> str:
    """`anna@beispiel.de` as `a•••@beispiel.de`: recognisable to its owner, useless to a stranger."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}•••@{domain}"


_WRONG_ADDRESS = {
    "required": "Give an e-mail address.",
    "too_long": f"An e-mail address has at most {MAX_ADDRESS_CHARACTERS} characters.",
    "missing_at": "An e-mail address needs an @, as in name@example.org.",
    "non_ascii_local": "Use an address without accented letters before the @.",
    "invalid": "This cannot be an e-mail address.",
}


def _address_error(code: str) -> Invalid:
    message = _WRONG_ADDRESS[code]
    return Invalid(message, errors=[{"field": "email", "code": code, "message": message}])


@dataclass(frozen=True)
class ClientInfo:
    """Who asked, as far as the connection tells."""

    ip: str
    ip_source: str  # "connection", "forwarded by N trusted proxies", "connection; untrusted header ignored"
    user_agent: str
    fetch_site: str = ""

    @property
    def network(self) -> str:
        """The /24 (IPv4) or /64 (IPv6) of the client: what one household or office shares."""
        try:
            address = ipaddress.ip_address(self.ip)
        except ValueError:
            return self.ip
        return str(ipaddress.ip_network((address, 24 if address.version == 4 else 64), strict=False))


@dataclass(frozen=True)
class Actor:
    """Who caused a change: the person, a mail client, an API key, the operator, the system."""

    kind: str
    id: str | None = None


PERSON = Actor("person")
MAIL_CLIENT = Actor("mail-client")
OPERATOR = Actor("operator")
SYSTEM = Actor("system")


def clean_text(value: str, limit: int) -> str:
    """`value` on one line without control characters, at most `limit` characters."""
    return _CONTROL.sub(" ", value)[:limit]
