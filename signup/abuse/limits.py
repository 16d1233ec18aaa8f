"""Budgets: how much mail an address gets, and how many posts a network may make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from sqlalchemy import select

from signup.abuse.models import Budget
from signup.core.db import Claim, Session, claim_of
from signup.core.values import ClientInfo

MINUTE, HOUR, DAY = 60, 3600, 86_400


@dataclass(frozen=True)
class Limit:
    """At most `count` spendings in any `seconds`."""

    count: int
    seconds: int


# Over all forms: what nobody takes for a flood, and what survives a mistyped first try.
ADDRESS_MAIL = (Limit(1, 10 * MINUTE), Limit(3, DAY), Limit(5, 30 * DAY))


# Links that people ask for do not use up what confirmations may need, and no more of them come.
LINK_MAIL = ADDRESS_MAIL


@dataclass(frozen=True)
class Allowance:
    """Above `soft` a post needs a proof, above `hard` it has to wait."""

    soft: Limit
    hard: Limit

    @classmethod
    def of(cls, soft: int, hard: int, seconds: int) -> Allowance:
        return cls(Limit(soft, seconds), Limit(hard, seconds))


class Place(Enum):
    """Where a press comes from, as far as that says how many people there are."""

    ANYWHERE = ""
    LISTED = "listed"  # a site that staff named; a header says so, and a program can send any header
    SOURCE = "source"  # a link or code that we signed for one event: a whole hall may share one address


# One household or office behind one address makes fewer than this; a list bomber makes more.
POSTS = {
    Place.ANYWHERE: (Allowance.of(5, 20, 10 * MINUTE), Allowance.of(20, 100, 10 * MINUTE)),
    Place.LISTED: (Allowance.of(15, 60, 10 * MINUTE), Allowance.of(60, 300, 10 * MINUTE)),
    Place.SOURCE: (Allowance.of(600, 1000, 10 * MINUTE), Allowance.of(1000, 2000, 10 * MINUTE)),
}
# Mistyped addresses and forgotten boxes are no attack; hundreds of them are.
REJECTED = (Limit(60, 10 * MINUTE), Limit(300, 10 * MINUTE))
# Our own page sent again without a proof, by browsers without scripts: few, so that no program lives on it.
BY_HAND = (Limit(20, HOUR),)
# The longest window of any limit.
KEEP_DAYS = 30


def address_budget_key(session: Session, controller_id: str, comparable: str) -> bytes:
    """The key under which an address's mails are counted; plus tags and dots of the local part do not split it."""
    return session.keys.keyed_hash("budget:address", f"{controller_id}|{_one_mailbox(comparable)}")


def link_budget_key(session: Session, controller_id: str, comparable: str) -> bytes:
    """The key under which the links are counted that an address was asked to get."""
    return session.keys.keyed_hash("budget:link", f"{controller_id}|{_one_mailbox(comparable)}")


def _one_mailbox(comparable: str) -> str:
    local, _, domain = comparable.rpartition("@")
    return f"{local.partition('+')[0].replace('.', '')}@{domain}"


def remaining_seconds(spent: Sequence[int], limits: Sequence[Limit], *, now: datetime) -> int:
    """Seconds until one more spending fits all `limits`; 0 when it fits now."""
    now_ms = int(now.timestamp() * 1000)
    wait_ms = 0
    for limit in limits:
        recent = sorted(moment for moment in spent if moment > now_ms - limit.seconds * 1000)
        if len(recent) >= limit.count:
            wait_ms = max(wait_ms, recent[-limit.count] + limit.seconds * 1000 - now_ms)
    return -(-wait_ms // 1000)


def spend(spent: Sequence[int], limits: Sequence[Limit], *, now: datetime) -> list[int]:
    """`spent` with one more at `now`, without what no limit counts any longer."""
    now_ms = int(now.timestamp() * 1000)
    horizon = now_ms - max(limit.seconds for limit in limits) * 1000
    return [*(moment for moment in spent if moment > horizon), now_ms]


def network_budgets(
    session: Session, client: ClientInfo, place: Place = Place.ANYWHERE, name: str = ""
) -> dict[bytes, Allowance]:
    """The budgets one post from `client` draws on: its address's, and its whole network's.

    Args:
        name: which site or source it is; each place has budgets of its own.
    """
    suffix = f"|{place.value}|{name}" if place is not Place.ANYWHERE else ""
    named = zip((f"ip|{client.ip}{suffix}", f"net|{client.network}{suffix}"), POSTS[place], strict=True)
    return {session.keys.keyed_hash("budget:network", text): allowance for text, allowance in named}


def rejected_budgets(session: Session, client: ClientInfo) -> dict[bytes, tuple[Limit, ...]]:
    """The budgets that one input which we could not take draws on."""
    named = zip((f"rejected|ip|{client.ip}", f"rejected|net|{client.network}"), REJECTED, strict=True)
    return {session.keys.keyed_hash("budget:network", text): (limit,) for text, limit in named}


def claims(keys: Iterable[bytes], *, now: datetime) -> dict[bytes, Claim]:
    """The claims to the rows under `keys`, which return what was spent.

    Everybody claims in the same order, so two requests cannot wait for each other.
    """
    keep_until = now + timedelta(days=KEEP_DAYS)
    return {
        key: claim_of(
            Budget,
            {"key": key, "spent": [], "expires_at": keep_until},
            on=["key"],
            update="expires_at = excluded.expires_at",
            returning=["spent"],
        )
        for key in sorted(keys)
    }


def lock(session: Session, key: bytes, *, now: datetime) -> list[int]:
    """What was spent under `key`, in a row that stays ours until the commit."""
    rows = session.claim([claims([key], now=now)[key]])
    spent: list[int] = rows[0][0]
    return spent


def spent_under(session: Session, key: bytes) -> list[int]:
    """What was spent under `key`, to show it; whoever spends needs `lock`."""
    return session.scalar(select(Budget.spent).where(Budget.key == key)) or []


def save(session: Session, key: bytes, spent: list[int]) -> None:
    """The spendings replace the ones that `lock` returned."""
    session.change(Budget, {"key": key}, {"spent": spent})
