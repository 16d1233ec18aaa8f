"""Made-up people: from a number to ids, addresses, keys and links, as the product would have made them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from signup.abuse import limits
from signup.consents import actions as consents
from signup.contacts import actions as contacts
from signup.core.db import Session
from signup.core.signing import token_hash
from signup.core.values import EmailAddress
from signup.subscriptions import links

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
CONFIRMED, ENDED, PENDING = "confirmed", "ended", "pending"
# Only one person in so many keeps the long rows, or a million people would take fifty gigabytes.
FULL_EVERY = 10
# Those who signed up long ago: spread over so many days, none within the last month.
OLDEST_DAYS, NEWEST_DAYS = 1030, 30
# Waiting for the click: old enough to lie in the past at any time of day, young enough to be good.
PENDING_DAYS = 2


@dataclass
class Sample:
    """One person's rows as the product wrote them.

    Args:
        cores: the random parts of the ids of these rows, in their order.
        hashes: the values here that are made from an id or an address, by what they are.
    """

    kind: str
    email: str
    day: date
    rows: list[tuple[str, dict[str, Any]]]
    cores: list[str]
    hashes: dict[str, bytes]
    subscription_core: str
    contact_core: str


@dataclass(frozen=True)
class Crowd:
    """People with numbers in a row, made like one sample on one day."""

    kind: str
    first: int
    count: int
    made_on: date
    for_one_run: bool = False


@dataclass
class Filled:
    """What a filled database holds: the samples, and who was made like which."""

    controller_id: str
    samples: dict[str, Sample]
    crowds: list[Crowd] = field(default_factory=list)

    @property
    def next_number(self) -> int:
        return max((crowd.first + crowd.count for crowd in self.crowds), default=0)

    @property
    def count(self) -> int:
        return sum(crowd.count for crowd in self.crowds)

    @property
    def settled(self) -> int:
        """Those who belong to the database, not to one run."""
        return sum(crowd.count for crowd in self.crowds if not crowd.for_one_run)


@dataclass(frozen=True)
class Person:
    """One made-up person."""

    number: int
    shift: int  # days between the sample's day and theirs
    stem: str  # what their ids begin with

    @property
    def email(self) -> str:
        return f"p{self.number:09d}@example.net"

    @property
    def token(self) -> bytes:
        return hashlib.sha256(b"bench %d" % self.number).digest()[:16]

    def core(self, position: int) -> str:
        return f"{self.stem}{position:04d}"

    def contact_id(self, sample: Sample) -> str:
        return "con_" + self.core(sample.cores.index(sample.contact_core))

    def subscription_id(self, sample: Sample) -> str:
        return "sub_" + self.core(sample.cores.index(sample.subscription_core))


def people(sample: Sample, crowd: Crowd) -> Iterator[Person]:
    """The people of the crowd, with days of their own."""
    age = (crowd.made_on - sample.day).days
    midnight = datetime(sample.day.year, sample.day.month, sample.day.day, tzinfo=UTC)
    for number in range(crowd.first, crowd.first + crowd.count):
        back = PENDING_DAYS if sample.kind == PENDING else NEWEST_DAYS + number % (OLDEST_DAYS - NEWEST_DAYS)
        shift = back - age
        moment = midnight - timedelta(days=shift)
        yield Person(number, shift, _base32(int(moment.timestamp() * 1000), 10) + _base32(number, 12))


def _base32(value: int, digits: int) -> str:
    return "".join(_CROCKFORD[(value >> shift) & 31] for shift in range(5 * (digits - 1), -1, -5))


def hashes(session: Session, controller_id: str, sample: Sample, person: Person, topic: str) -> dict[str, bytes]:
    """What the product would have computed for this person."""
    email = EmailAddress(person.email, person.email)
    return _hashes(session, controller_id, email, person.subscription_id(sample), topic, person.token)


def _hashes(
    session: Session, controller_id: str, email: EmailAddress, subscription_id: str, topic: str, token: bytes
) -> dict[str, bytes]:
    return {
        "address_key": contacts.address_key(session, controller_id, email),
        "budget_key": limits.address_budget_key(session, controller_id, email.comparable),
        "link_hash": token_hash(links.unsubscribe_id(session, subscription_id, 1)),
        "topic_hash": token_hash(consents.link_id(session, subscription_id, topic, 1)),
        "token_hash": token_hash(token),
    }


sample_hashes = _hashes
