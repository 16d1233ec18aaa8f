"""When something is wrong enough to tell the operator, how often, in which words. Without database and network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from signup.alarms.models import AlarmKind

# An outage shorter than this mends itself unnoticed.
MAX_AGE = timedelta(minutes=15)
# One mailbox that answers "later" is not our trouble; so many at once are.
DEFERRED_MAILS = 10
# Three tries take five minutes; the fourth comes half an hour later.
FAILED_TRIES = 3
# Time stamping authorities are out of order now and then; a token that comes later is good too.
MAX_UNSTAMPED = timedelta(hours=1)
# An authority tells its next certificate some weeks before; it has to be set here by then.
TSA_ENDS_WITHIN = timedelta(days=30)
# A pause that somebody forgot keeps data from the receiver.
MAX_HELD = timedelta(hours=24)
# What comes and goes within this is one alarm, not many.
CALM = timedelta(minutes=5)
REPEAT = {
    AlarmKind.MAIL_STUCK: timedelta(hours=4),
    AlarmKind.QUEUE_AGE: timedelta(hours=4),
    AlarmKind.JOBS_DEAD: timedelta(hours=24),
    AlarmKind.ENDPOINT_FAILING: timedelta(hours=24),
    AlarmKind.ENDPOINT_OFF: timedelta(hours=24),
    # What waits is discarded after a day, so there is not a day to lose.
    AlarmKind.FORM_ATTACKED: timedelta(hours=4),
    AlarmKind.REPORTS_UNREADABLE: timedelta(hours=24),
    AlarmKind.LOG_DAMAGED: timedelta(hours=4),
    AlarmKind.LOG_UNSTAMPED: timedelta(hours=24),
    AlarmKind.TSA_ENDS: timedelta(days=7),
}
# A way that does not work is tried again after these, then every quarter of an hour.
RETRY_SECONDS = (60, 60, 120, 300, 900)
# Whoever could not be told in a week reads the log.
GIVE_UP = timedelta(days=7)

_WORDS = {
    "en": {
        AlarmKind.MAIL_STUCK: "{count} mails wait for the mail server, the oldest for {minutes} minutes",
        AlarmKind.QUEUE_AGE: "work of the kind {subject} has been waiting for {minutes} minutes",
        AlarmKind.JOBS_DEAD: "{count} jobs of the kind {subject} were given up",
        AlarmKind.ENDPOINT_FAILING: "webhook endpoint {subject} ({host}) does not take its deliveries: "
        "{waiting} failed and are tried again, {dead} were given up within a day",
        AlarmKind.ENDPOINT_OFF: "webhook endpoint {subject} ({host}) is {state} and gets nothing; "
        "{held} deliveries wait",
        AlarmKind.FORM_ATTACKED: "form {form} has far more sign-ups than usual, and {held} mails wait: "
        "flask abuse release or flask abuse discard",
        AlarmKind.REPORTS_UNREADABLE: "{count} mails that came back could not be read; see flask bounces list",
        AlarmKind.LOG_DAMAGED: "the evidence log is not what was signed ({subject}): {reason}",
        AlarmKind.LOG_UNSTAMPED: "the evidence log has had no time stamp for {minutes} minutes: {reason}",
        AlarmKind.TSA_ENDS: "the certificate of the time stamping authority ends in {days} days: "
        "add the next one to SIGNUP_TSA_CERTIFICATE",
    },
    "de": {
        AlarmKind.MAIL_STUCK: "{count} Mails warten auf den Mailserver, die älteste seit {minutes} Minuten",
        AlarmKind.QUEUE_AGE: "Arbeit der Art {subject} wartet seit {minutes} Minuten",
        AlarmKind.JOBS_DEAD: "{count} Aufträge der Art {subject} wurden aufgegeben",
        AlarmKind.ENDPOINT_FAILING: "Webhook-Endpunkt {subject} ({host}) nimmt seine Lieferungen nicht an: "
        "{waiting} sind gescheitert und werden wiederholt, {dead} wurden binnen eines Tages aufgegeben",
        AlarmKind.ENDPOINT_OFF: "Webhook-Endpunkt {subject} ({host}) ist {state} und bekommt nichts; "
        "{held} Lieferungen warten",
        AlarmKind.FORM_ATTACKED: "Formular {form} hat weit mehr Anmeldungen als üblich, und {held} Mails warten: "
        "flask abuse release oder flask abuse discard",
        AlarmKind.REPORTS_UNREADABLE: "{count} zurückgekommene Mails waren nicht lesbar; siehe flask bounces list",
        AlarmKind.LOG_DAMAGED: "das Nachweis-Protokoll ist nicht mehr das unterschriebene ({subject}): {reason}",
        AlarmKind.LOG_UNSTAMPED: "das Nachweis-Protokoll hat seit {minutes} Minuten keinen Zeitstempel: {reason}",
        AlarmKind.TSA_ENDS: "das Zertifikat der Zeitstempelstelle endet in {days} Tagen: "
        "das nächste in SIGNUP_TSA_CERTIFICATE aufnehmen",
    },
}

_STATES: dict[str, dict[str, str]] = {"en": {}, "de": {"paused": "angehalten", "disabled": "abgeschaltet"}}


class Change(Enum):
    RAISED = "raised"
    REPEATED = "repeated"
    CLEARED = "cleared"


_CHANGES = {
    "en": {Change.RAISED: "ALARM", Change.REPEATED: "STILL", Change.CLEARED: "OVER"},
    "de": {Change.RAISED: "ALARM", Change.REPEATED: "WEITERHIN", Change.CLEARED: "VORBEI"},
}


@dataclass(frozen=True)
class Finding:
    """Something that is over its bound now.

    Args:
        subject: which queue or endpoint, empty when there is only one.
        facts: figures for the words, without anything about a person.
    """

    kind: AlarmKind
    subject: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class Standing:
    """An alarm that was raised and is not over."""

    id: str
    finding: Finding
    raised_at: datetime
    seen_at: datetime
    told_at: datetime


@dataclass(frozen=True)
class Step:
    """One thing to tell: `standing` is None for an alarm that is new."""

    change: Change
    finding: Finding
    standing: Standing | None


def mail_stuck(oldest_untried: datetime | None, untried: int, deferred: int, *, now: datetime) -> Finding | None:
    """Mails that nobody could hand over for longer than the bound.

    Args:
        oldest_untried: when the oldest mail was queued that never had an answer from the mail server.
        untried: how many older than the bound never had an answer.
        deferred: how many older than the bound were answered "later".
    """
    late = oldest_untried is not None and now - oldest_untried > MAX_AGE
    if not late and deferred < DEFERRED_MAILS:
        return None
    age = now - oldest_untried if late and oldest_untried else MAX_AGE
    return Finding(AlarmKind.MAIL_STUCK, "", {"count": untried + deferred, "minutes": _minutes(age)})


def queue_age(queue: str, oldest_due: datetime | None, *, now: datetime) -> Finding | None:
    """Work that has been due for longer than the bound, so nobody does it."""
    if oldest_due is None or now - oldest_due <= MAX_AGE:
        return None
    return Finding(AlarmKind.QUEUE_AGE, queue, {"minutes": _minutes(now - oldest_due)})


def jobs_dead(kind: str, count: int) -> Finding | None:
    """Jobs that were given up and are still there."""
    return Finding(AlarmKind.JOBS_DEAD, kind, {"count": count}) if count else None


def reports_unreadable(count: int) -> Finding | None:
    """Mails that came back and say nothing we understand, until somebody has seen to them."""
    return Finding(AlarmKind.REPORTS_UNREADABLE, "", {"count": count}) if count else None


def endpoint_failing(endpoint_id: str, host: str, *, waiting: int, dead: int) -> Finding | None:
    """An endpoint that failed a delivery several times, or for good within the last day."""
    if not waiting and not dead:
        return None
    return Finding(AlarmKind.ENDPOINT_FAILING, endpoint_id, {"host": host, "waiting": waiting, "dead": dead})


def endpoint_off(
    endpoint_id: str, host: str, *, state: str, gone: bool, held: int, held_since: datetime | None, now: datetime
) -> Finding | None:
    """An endpoint that answered that it is gone, or whose pause holds deliveries for longer than the bound."""
    forgotten = held_since is not None and now - held_since > MAX_HELD
    if not gone and not forgotten:
        return None
    return Finding(AlarmKind.ENDPOINT_OFF, endpoint_id, {"host": host, "state": state, "held": held})


def log_damaged(part: str, reason: str | None) -> Finding | None:
    """The log differs from what was signed: told at once, because nothing more is proven from now on."""
    return Finding(AlarmKind.LOG_DAMAGED, part, {"reason": reason}) if reason else None


def log_unstamped(since: datetime | None, reason: str | None, *, now: datetime) -> Finding | None:
    """Checkpoints that the authority has not stamped for longer than the bound."""
    if since is None or now - since <= MAX_UNSTAMPED:
        return None
    facts = {"minutes": _minutes(now - since), "reason": reason or "nobody asked the authority"}
    return Finding(AlarmKind.LOG_UNSTAMPED, "", facts)


def tsa_ends(good_until: datetime, *, now: datetime) -> Finding | None:
    """The last of the authority's certificates that we know ends soon, and with it all time stamps."""
    left = good_until - now
    return Finding(AlarmKind.TSA_ENDS, "", {"days": max(left.days, 0)}) if left <= TSA_ENDS_WITHIN else None


def form_attacked(form_id: str, slug: str, held: int) -> Finding:
    """A form under attack, or whose mails still wait for somebody to look."""
    return Finding(AlarmKind.FORM_ATTACKED, form_id, {"form": slug, "held": held})


def steps(findings: Iterable[Finding], standing: Iterable[Standing], *, now: datetime) -> list[Step]:
    """What there is to tell: new alarms, those that last, those that are over."""
    found = {(finding.kind, finding.subject): finding for finding in findings}
    told = []
    for alarm in standing:
        finding = found.pop((alarm.finding.kind, alarm.finding.subject), None)
        if finding is None:
            if now - alarm.seen_at >= CALM:
                told.append(Step(Change.CLEARED, alarm.finding, alarm))
        elif now - alarm.told_at >= REPEAT[finding.kind]:
            told.append(Step(Change.REPEATED, finding, alarm))
    return [Step(Change.RAISED, finding, None) for finding in found.values()] + told


def next_try(attempt: int, *, now: datetime) -> datetime:
    """When a notice whose try number `attempt` failed is due again."""
    return now + timedelta(seconds=RETRY_SECONDS[min(attempt, len(RETRY_SECONDS)) - 1])


def sentence(change: Change, finding: Finding, locale: str) -> str:
    """One line for a person."""
    state = str(finding.facts.get("state", ""))
    # Alarms of before name no form.
    facts = {
        "form": finding.subject,
        **finding.facts,
        "subject": finding.subject,
        "state": _STATES[locale].get(state, state),
    }
    words = _WORDS[locale][finding.kind].format(**facts)
    return f"{_CHANGES[locale][change]}: {words}"


def _minutes(age: timedelta) -> int:
    return int(age.total_seconds() // 60)
