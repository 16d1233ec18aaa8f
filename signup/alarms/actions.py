"""Finding what is wrong, remembering it, and the queue of notices about it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import ColumnElement, String, and_, delete, func, literal_column, or_, select, update

from signup import jobs
from signup.alarms import rules
from signup.alarms.models import Alarm, AlarmNotice, Way
from signup.alarms.rules import Change, Finding, Standing, Step
from signup.core.config import Config
from signup.core.db import Session
from signup.core.values import new_id, rfc3339
from signup.eventlog import health
from signup.eventlog.health import Part
from signup.intake import actions as intake
from signup.jobs import IS_DUE, JobRow
from signup.mail.compose import JOB_SEND
from signup.subscriptions import attacks
from signup.webhooks.models import Delivery, DeliveryState, Endpoint, EndpointState

WEBHOOKS = "webhooks"
DEAD_WITHIN = timedelta(days=1)
# So long one can look up whether and when the operator was told.
KEPT = timedelta(days=30)
BATCH = 20

# Spelled out, not bound: a database uses a partial index only when the query repeats its condition.
_DUE: ColumnElement[Any] = Delivery.state == literal_column("'due'", String)
_QUIET = {"synchronize_session": False}


@dataclass(frozen=True)
class Target:
    """One way to one place. The address itself stays in the settings; rows hold its hash."""

    way: Way
    address: str

    @property
    def key(self) -> str:
        return hashlib.sha256(self.address.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Notice:
    """A notice that is due."""

    id: str
    content: list[dict[str, Any]]
    attempt: int
    created_at: datetime


def targets(config: Config) -> list[Target]:
    """Where alarms go by the settings; the webhook first, because a hanging mail server takes longer to fail."""
    ways = [Target(Way.WEBHOOK, config.alarm_url)] if config.alarm_url else []
    return ways + [Target(Way.MAIL, address) for address in config.alarm_mail]


def measure(session: Session, *, now: datetime) -> list[Finding]:
    """Everything that is over its bound now."""
    backlog = jobs.backlog(session, now=now)
    # For mail the time since the sign-up counts, not since the last try.
    found = [rules.queue_age(line.kind, line.oldest_due_at, now=now) for line in backlog if line.kind != JOB_SEND]
    found += [rules.jobs_dead(line.kind, line.dead) for line in backlog]
    oldest = session.scalar(select(func.min(Delivery.next_at)).where(_DUE, Delivery.next_at <= now))
    found += [_mail_stuck(session, now=now), rules.queue_age(WEBHOOKS, oldest, now=now)]
    found += _endpoints(session, now=now)
    found += [rules.form_attacked(item.form_id, item.slug, item.held) for item in attacks.to_look_at(session)]
    found.append(rules.reports_unreadable(intake.unreadable(session)))
    found += _log(session, now=now)
    return [finding for finding in found if finding is not None]


def _log(session: Session, *, now: datetime) -> Iterable[Finding | None]:
    parts = health.of(session)
    for part in (Part.SEAL, Part.AUDIT):
        if part in parts:
            yield rules.log_damaged(part.value, parts[part].trouble)
    tsa = session.config.evidence.tsa
    if tsa and tsa.url:
        since = health.unstamped_since(session, health.stamped_size(session))
        reason = parts[Part.STAMP].trouble if Part.STAMP in parts else None
        yield rules.log_unstamped(since, reason, now=now)
        yield rules.tsa_ends(max(item.not_valid_after_utc for item in tsa.certificates), now=now)


def _mail_stuck(session: Session, *, now: datetime) -> Finding | None:
    late = JobRow.created_at < now - rules.MAX_AGE
    # A try without a connection does not count, so one that counts had an answer; the first may be under way.
    unanswered = JobRow.attempt <= 1
    query = select(
        func.min(JobRow.created_at).filter(unanswered),
        func.count().filter(late & unanswered),
        func.count().filter(late & ~unanswered),
    ).where(JobRow.kind == JOB_SEND, IS_DUE)
    oldest, untried, deferred = session.execute(query).one()
    return rules.mail_stuck(oldest, untried, deferred, now=now)


def _endpoints(session: Session, *, now: datetime) -> Iterable[Finding | None]:
    own = Delivery.endpoint_id == Endpoint.id
    again = and_(own, _DUE, Delivery.attempt >= rules.FAILED_TRIES, Delivery.lease_token.is_(None))
    # A test has its answer in front of whoever asked for it.
    asked = Delivery.trigger != "test"
    dead = and_(own, asked, Delivery.state == DeliveryState.DEAD, Delivery.finished_at > now - DEAD_WITHIN)
    held = and_(own, Delivery.state == DeliveryState.HELD)
    columns = (Endpoint.id, Endpoint.url, Endpoint.state)
    failing = select(*columns, _count(again), _count(dead)).where(Endpoint.state == EndpointState.ACTIVE)
    for ident, url, _state, waiting, lost in session.execute(failing):
        yield rules.endpoint_failing(ident, _host(url), waiting=waiting, dead=lost)
    since = select(func.min(Delivery.created_at)).where(held).scalar_subquery()
    off = select(*columns, Endpoint.state_reason, _count(held), since).where(Endpoint.state != EndpointState.ACTIVE)
    for ident, url, state, reason, count, first in session.execute(off):
        yield rules.endpoint_off(
            ident, _host(url), state=state.value, gone=reason is not None, held=count, held_since=first, now=now
        )


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return select(func.count()).select_from(Delivery).where(condition).correlate(Endpoint).scalar_subquery()


def _host(url: str) -> str:
    # The path of a webhook is often its receiver's secret.
    return urlsplit(url).hostname or ""


def note(session: Session, findings: Sequence[Finding], ways: Sequence[Target], *, now: datetime) -> list[Step]:
    """Alarms stand as found, and one notice for each target tells what changed.

    Args:
        findings: from `measure`, read just before.

    Returns:
        What changed, for the log.
    """
    standing = _standing(session)
    told = rules.steps(findings, standing, now=now)
    _remember(session, findings, standing, now=now)
    content = [_apply(session, step, now=now) for step in told]
    for target in ways if content else ():
        session.put(AlarmNotice, _notice(target, content, now=now))
    return told


def _standing(session: Session) -> list[Standing]:
    rows = session.scalars(select(Alarm).where(Alarm.cleared_at.is_(None)).order_by(Alarm.id)).all()
    return [
        Standing(row.id, Finding(row.kind, row.subject, row.facts), row.raised_at, row.seen_at, row.told_at)
        for row in rows
    ]


def _remember(session: Session, findings: Sequence[Finding], standing: Sequence[Standing], *, now: datetime) -> None:
    found = {(finding.kind, finding.subject): finding for finding in findings}
    for alarm in standing:
        finding = found.get((alarm.finding.kind, alarm.finding.subject))
        if finding is not None:
            values = {"seen_at": now, "facts": finding.facts}
            session.execute(update(Alarm).where(Alarm.id == alarm.id).values(**values).execution_options(**_QUIET))


def _apply(session: Session, step: Step, *, now: datetime) -> dict[str, Any]:
    """The alarm is as the step says.

    Returns:
        What the notices say of it.
    """
    finding, standing = step.finding, step.standing
    ident = standing.id if standing else new_id("alm", now)
    if standing is None:
        times = {"raised_at": now, "seen_at": now, "told_at": now, "cleared_at": None}
        row = {"id": ident, "kind": finding.kind, "subject": finding.subject, "facts": finding.facts, **times}
        session.put(Alarm, row)
    else:
        column = "cleared_at" if step.change is Change.CLEARED else "told_at"
        change = update(Alarm).where(Alarm.id == ident).values({column: now})
        session.execute(change.execution_options(**_QUIET))
    return {
        "id": ident,
        "change": step.change.value,
        "kind": finding.kind.value,
        "subject": finding.subject,
        "facts": finding.facts,
        "raised_at": rfc3339(standing.raised_at if standing else now),
        "text": rules.sentence(step.change, finding, "en"),
        "text_de": rules.sentence(step.change, finding, "de"),
    }


def _notice(target: Target, content: list[dict[str, Any]], *, now: datetime) -> dict[str, Any]:
    return {
        "id": new_id("ntc", now),
        "way": target.way,
        "target": target.key,
        "content": content,
        "attempt": 0,
        "next_at": now,
        "error": None,
        "created_at": now,
        "sent_at": None,
    }


def due(session: Session, target: Target, *, now: datetime) -> list[Notice]:
    """The notices that are to be sent to this target now, oldest first."""
    row = AlarmNotice
    query = select(row.id, row.content, row.attempt, row.created_at).where(
        row.sent_at.is_(None), row.next_at <= now, row.way == target.way, row.target == target.key
    )
    return [Notice(*found) for found in session.execute(query.order_by(row.id).limit(BATCH))]


def sent(session: Session, notice: Notice, *, now: datetime) -> None:
    """The notice is told."""
    _change(session, notice, attempt=notice.attempt + 1, error=None, sent_at=now)


def failed(session: Session, notice: Notice, error: str, *, now: datetime) -> None:
    """The notice is due again, a little later each time."""
    attempt = notice.attempt + 1
    _change(session, notice, attempt=attempt, error=error[:500], next_at=rules.next_try(attempt, now=now))


def _change(session: Session, notice: Notice, **values: Any) -> None:
    change = update(AlarmNotice).where(AlarmNotice.id == notice.id).values(**values)
    session.execute(change.execution_options(**_QUIET))


def forget(session: Session, ways: Collection[Target], *, now: datetime) -> int:
    """Old notices and alarms are gone, and so are notices that nobody can be told any more.

    Returns:
        How many notices were given up: a week old, or for a target that is no longer set.
    """
    row = AlarmNotice
    waiting = row.sent_at.is_(None)
    nobody = row.target.not_in([target.key for target in ways])
    lost = delete(row).where(waiting, or_(row.created_at < now - rules.GIVE_UP, nobody)).returning(row.id)
    count = len(session.scalars(lost.execution_options(**_QUIET)).all())
    for statement in (
        delete(row).where(row.sent_at < now - KEPT),
        delete(Alarm).where(Alarm.cleared_at < now - KEPT),
    ):
        session.execute(statement.execution_options(**_QUIET))
    return count


def standing_by_kind(session: Session) -> dict[str, int]:
    """How many alarms of each kind stand now."""
    query = select(Alarm.kind, func.count()).where(Alarm.cleared_at.is_(None)).group_by(Alarm.kind)
    return {kind.value: count for kind, count in session.execute(query)}
