"""Budgets: how much mail an address gets, and how many posts a network may make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

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
# One household or office behind one address makes fewer than this; a list bomber makes more.
NETWORK_POSTS = (Limit(20, 10 * MINUTE),)
WIDE_NETWORK_POSTS = (Limit(100, 10 * MINUTE),)
# The longest window of any limit.
KEEP_DAYS = 30


def address_budget_key(session: Session, controller_id: str, comparable: str) -> bytes:
    """The key under which an address's mails are counted; plus tags and dots of the local part do not split it."""
    local, _, domain = comparable.rpartition("@")
    local = local.partition("+")[0].replace(".", "")
    return session.keys.keyed_hash("budget:address", f"{controller_id}|{local}@{domain}")


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


def network_budgets(session: Session, client: ClientInfo) -> dict[bytes, tuple[Limit, ...]]:
    """The budgets one post from `client` draws on: its address's, and its whole network's."""
    named = {f"ip|{client.ip}": NETWORK_POSTS, f"net|{client.network}": WIDE_NETWORK_POSTS}
    return {session.keys.keyed_hash("budget:network", name): limits for name, limits in named.items()}


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


def save(session: Session, key: bytes, spent: list[int]) -> None:
    """The spendings replace the ones that `lock` returned."""
    session.change(Budget, {"key": key}, {"spent": spent})
