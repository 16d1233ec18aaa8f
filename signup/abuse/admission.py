"""Whether a press of the button may pass: what it draws on, what raises a doubt, and what dispels it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from signup.abuse import challenge, flows, limits
from signup.abuse.challenge import Proof
from signup.abuse.flows import Due, Stream
from signup.abuse.limits import Allowance, Place
from signup.abuse.models import SpentProof
from signup.core.db import Claim, Session, claim_of
from signup.core.errors import NetworkSpent, SecondLook
from signup.core.values import ClientInfo

# How much each sign says. None is proof of a machine: browsers fill hidden fields, and people are fast.
SIGNALS = {"honeypot": 2, "fast": 1, "disposable": 1}
DOUBTFUL = 2


@dataclass(frozen=True)
class Look:
    """What the edge saw of a press beside its fields.

    Args:
        signals: names from `SIGNALS`.
        source: the signed source that it came by.
        unlisted: it comes from a site that staff did not name, or does not say from which.
        by_hand: our own second page sent it, without a proof.
    """

    signals: tuple[str, ...] = ()
    place: Place = Place.ANYWHERE
    source: str = ""
    unlisted: bool = False
    proof: Proof | None = None
    by_hand: bool = False

    @property
    def told(self) -> list[str] | None:
        """For the evidence; None when there is nothing to tell."""
        vouched = ["proof"] if self.proof else ["by-hand"] if self.by_hand else []
        return [*self.signals, *vouched] or None


# Nothing but the fields, as when a program asks.
UNSEEN = Look()


@dataclass(frozen=True)
class Press:
    """Who presses where.

    Args:
        counted: False for a program with a key, and for the developer's own machine.
    """

    controller_id: str
    form_id: str
    domain: str
    client: ClientInfo
    look: Look
    counted: bool
    handle: str


@dataclass(frozen=True)
class Ticket:
    """The rows that one press draws on beside its own."""

    press: Press
    networks: Mapping[bytes, Allowance] = field(default_factory=dict)
    by_hand: bytes | None = None
    streams: Sequence[Stream] = ()
    due: Sequence[Due] = ()
    claims: Sequence[Claim] = ()

    @property
    def budgets(self) -> list[bytes]:
        return [*self.networks, self.by_hand] if self.by_hand else [*self.networks]


def ticket(session: Session, press: Press, *, now: datetime) -> Ticket:
    """The press is counted in this process; what it draws on is to be claimed with its own rows."""
    look = press.look
    proof = [_proof_claim(look.proof, press.handle)] if look.proof else []
    by_hand = session.keys.keyed_hash("budget:by-hand", press.form_id) if look.by_hand and not proof else None
    if not press.counted:
        return Ticket(press, by_hand=by_hand, claims=proof)
    networks = limits.network_budgets(session, press.client, look.place, f"{press.form_id}|{look.source}")
    streams = _streams(press, session.config.form_per_hour)
    due = sorted(flows.tally().count(streams, now=now))
    return Ticket(press, networks, by_hand, streams, due, [*proof, *flows.claims(session, due)])


def _streams(press: Press, per_hour: int) -> tuple[Stream, ...]:
    domain = flows.domain_stream(press.controller_id, press.domain, per_hour)
    if press.look.place is Place.SOURCE:
        return flows.source_stream(press.form_id, press.look.source), domain
    form = flows.form_stream(press.form_id, per_hour)
    return form, flows.controller_stream(press.controller_id, per_hour), domain


def _proof_claim(proof: Proof, handle: str) -> Claim:
    row = {"nonce": proof.nonce, "press": handle, "expires_at": proof.expires_at}
    return claim_of(SpentProof, row, on=["nonce"], update="nonce = excluded.nonce", returning=["press"])


@dataclass(frozen=True)
class Admitted:
    """A press that passed.

    Args:
        held: its form has far more sign-ups than it ever had; mails wait for somebody to look.
    """

    held: bool = False


def admit(
    session: Session, ticket: Ticket, spent: Mapping[bytes, list[int]], rows: Sequence[Any], *, now: datetime
) -> Admitted:
    """The press draws on its budgets.

    Args:
        spent: what was spent of `ticket.budgets`.
        rows: what `ticket.claims` returned.

    Raises:
        NetworkSpent: its network has to wait. The address plays no part in that.
        SecondLook: it is doubtful, and nothing vouches for it.
    """
    try:
        _refuse_spent(ticket, spent, now=now)
        held = bool(ticket.streams) and flows.tally().is_over(ticket.streams[0], now=now)
        by_hand = _dispel(ticket, spent, rows, held=held, now=now)
    except NetworkSpent:
        flows.tally().uncount(ticket.streams)
        raise
    except SecondLook as doubt:
        if "form" in doubt.reasons and "network" not in doubt.reasons:
            # A flood of refused presses would otherwise stay known to this process alone.
            doubt.owed = ticket.due
        raise
    _draw(session, ticket, spent, by_hand=by_hand, now=now)
    settle(ticket, rows)
    return Admitted(held)


def is_held(session: Session, form_id: str, *, now: datetime) -> bool:
    """Whether mails of this form wait for somebody to look."""
    return flows.tally().is_over(flows.form_stream(form_id, session.config.form_per_hour), now=now)


def cost(session: Session, form_id: str, *, now: datetime) -> int:
    """What a proof for this form costs now, by what all processes see."""
    stream = flows.form_stream(form_id, session.config.form_per_hour)
    attacked = flows.tally().is_over(stream, now=now) or flows.is_over_for_all(session, stream, now=now)
    return challenge.ATTACK_COST if attacked else challenge.COST


def settle(ticket: Ticket, rows: Sequence[Any]) -> None:
    """What was added to the database is not counted here any longer; the commit is about to come."""
    flows.tally().settle(ticket.due, rows[len(rows) - len(ticket.due) :])


def _refuse_spent(ticket: Ticket, spent: Mapping[bytes, list[int]], *, now: datetime) -> None:
    waits = (limits.remaining_seconds(spent[key], (rule.hard,), now=now) for key, rule in ticket.networks.items())
    if wait := max(waits, default=0):
        raise NetworkSpent("Too many sign-ups from this network.", retry_after_seconds=wait)


def _dispel(
    ticket: Ticket, spent: Mapping[bytes, list[int]], rows: Sequence[Any], *, held: bool, now: datetime
) -> bytes | None:
    """Nothing is doubtful, or something vouches for the press.

    Returns:
        The budget of those without a proof, if that was needed.
    """
    doubts = _doubts(ticket, spent, held=held, now=now)
    if not doubts or _proven(ticket.press, rows, cost=challenge.ATTACK_COST if held else 0):
        return None
    if "network" in doubts:
        flows.tally().uncount(ticket.streams)
    wait = max(doubts.values())
    if ticket.by_hand is None:
        raise SecondLook("Please prove that you are no machine.", reasons=tuple(doubts), retry_after_seconds=wait)
    if wait := limits.remaining_seconds(spent[ticket.by_hand], limits.BY_HAND, now=now):
        raise SecondLook("Too many without a proof.", reasons=("by-hand", *doubts), retry_after_seconds=wait)
    return ticket.by_hand


def _doubts(ticket: Ticket, spent: Mapping[bytes, list[int]], *, held: bool, now: datetime) -> dict[str, int]:
    """What speaks against the press, and for how many seconds more; 0 when waiting does not help."""
    look, found = ticket.press.look, {}
    waits = (limits.remaining_seconds(spent[key], (rule.soft,), now=now) for key, rule in ticket.networks.items())
    if wait := max(waits, default=0):
        found["network"] = wait
    if held:
        found["form"] = _rest_of_hour(now)
    names = [stream.name.partition("|")[0] for stream in ticket.streams[1:] if flows.tally().is_over(stream, now=now)]
    # What the recipient's domain does is no reason to wait: that would tell something about addresses.
    found |= {name: 0 if name == "domain" else _rest_of_hour(now) for name in names}
    if look.unlisted:
        found["origin"] = 0
    if sum(SIGNALS[name] for name in look.signals) >= DOUBTFUL:
        found["signals"] = 0
    return found


def _rest_of_hour(now: datetime) -> int:
    return flows.HOUR_SECONDS - int(now.timestamp()) % flows.HOUR_SECONDS


def _proven(press: Press, rows: Sequence[Any], *, cost: int) -> bool:
    proof = press.look.proof
    # Spent on another press: the row was there before.
    return proof is not None and proof.cost >= cost and bool(rows[0][0] == press.handle)


def _draw(
    session: Session, ticket: Ticket, spent: Mapping[bytes, list[int]], *, by_hand: bytes | None, now: datetime
) -> None:
    for key, rule in ticket.networks.items():
        limits.save(session, key, limits.spend(spent[key], (rule.hard,), now=now))
    if by_hand:
        limits.save(session, by_hand, limits.spend(spent[by_hand], limits.BY_HAND, now=now))


def refuse_rejected(session: Session, client: ClientInfo, *, now: datetime) -> None:
    """One more input that we could not take is counted for its network.

    Raises:
        NetworkSpent: there were too many.
    """
    budgets = limits.rejected_budgets(session, client)
    rows = session.claim(list(limits.claims(budgets, now=now).values()))
    spent = {key: row[0] for key, row in zip(sorted(budgets), rows, strict=True)}
    wait = max(limits.remaining_seconds(spent[key], rule, now=now) for key, rule in budgets.items())
    if wait:
        raise NetworkSpent("Too many mistakes from this network.", retry_after_seconds=wait)
    for key, rule in budgets.items():
        limits.save(session, key, limits.spend(spent[key], rule, now=now))
