"""Budgets: how much mail an address gets, and how many posts a network may make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from signup.abuse.models import Budget
from signup.core.db import KEEP_QUEUE, Session, upsert
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


def lock(session: Session, keys: Iterable[bytes], *, now: datetime) -> dict[bytes, list[int]]:
    """What was spent under each of `keys`, in rows that stay ours until the commit."""
    keep_until = now + timedelta(days=KEEP_DAYS)
    spent: dict[bytes, list[int]] = {}
    # Everybody locks in the same order, so two requests cannot wait for each other.
    for key in sorted(keys):
        row = {"key": key, "spent": [], "expires_at": keep_until}
        insert = upsert(session, Budget, row, on=["key"], update={"expires_at": keep_until}).returning(Budget.spent)
        spent[key] = session.scalar(insert, execution_options={KEEP_QUEUE: True}) or []
    return spent


def save(session: Session, key: bytes, spent: list[int]) -> None:
    """The spendings replace the ones that `lock` returned."""
    session.change(Budget, {"key": key}, {"spent": spent})
