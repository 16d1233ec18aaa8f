"""When a form is under attack: seen within a minute, on record with its start and its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update

from signup.abuse import flows
from signup.abuse.flows import Flood
from signup.abuse.models import Attack
from signup.core.db import Session, reading, transaction
from signup.eventlog.kinds import EventType
from signup.eventlog.record import record
from signup.forms.models import Form
from signup.jobs import Job
from signup.subscriptions import quarantine

JOB_WATCH = "abuse.attacks"
EVERY_SECONDS = 60
# What comes and goes within this is one attack, not many.
CALM = timedelta(minutes=5)
_QUIET = {"synchronize_session": False}


@dataclass(frozen=True)
class Attacked:
    """A form that somebody should look at.

    Args:
        since: when the attack was seen; None when it is over and mails still wait.
        held: how many mails wait.
    """

    form_id: str
    slug: str
    controller_id: str
    since: datetime | None
    held: int


def run(_leased: Sequence[Job], clock: Callable[[], datetime]) -> None:
    """Attacks that began or ended since the last run are on record."""
    now = clock()
    with reading() as session:
        flooded, known = _flooded(session, now=now), session.scalars(select(Attack.form_id)).all()
    if not flooded and not known:
        return
    with transaction() as session:
        watch(session, flooded, now=now)


def watch(session: Session, flooded: Mapping[str, Flood], *, now: datetime) -> None:
    """The attacks that stand are those on these forms; what began and what is over is an event each.

    Args:
        flooded: id of the form to what it has.
    """
    standing = {row.form_id: row for row in session.scalars(select(Attack)).all()}
    forms = {row.id: row for row in session.execute(select(Form.id, Form.slug, Form.controller_id))}
    for form_id, flood in flooded.items():
        form = forms[form_id]
        if form_id in standing:
            change = update(Attack).where(Attack.form_id == form_id).values(seen_at=now)
            session.execute(change.execution_options(**_QUIET))
            continue
        session.put(
            Attack, {"form_id": form_id, "controller_id": form.controller_id, "started_at": now, "seen_at": now}
        )
        counts = {"sign_ups": flood.count, "ordinary": flood.ordinary}
        fields = {"form": form.slug, "counts": counts}
        record(session, form.controller_id, EventType.FORM_ATTACKED, fields, now=now)
    held = dict(quarantine.waiting(session))
    for form_id, attack in standing.items():
        if form_id in flooded or now - attack.seen_at < CALM:
            continue
        session.execute(delete(Attack).where(Attack.form_id == form_id).execution_options(**_QUIET))
        minutes = int((attack.seen_at - attack.started_at).total_seconds() // 60)
        fields = {"form": forms[form_id].slug, "counts": {"minutes": minutes, "held": held.get(form_id, 0)}}
        record(session, attack.controller_id, EventType.FORM_ATTACK_OVER, fields, now=now)


def _flooded(session: Session, *, now: datetime) -> dict[str, Flood]:
    """The forms that have far more sign-ups than usual, by what all processes see."""
    found = flows.floods(session, session.config.form_per_hour, now=now)
    if not found:
        return {}
    # Counts are kept under keyed hashes, so the way back leads over all forms; only an attack makes anybody go it.
    keys = {
        flows.key_of(session, flows.form_stream(form_id, 0)): form_id for form_id in session.scalars(select(Form.id))
    }
    return {keys[key]: flood for key, flood in found.items() if key in keys}


def to_look_at(session: Session) -> list[Attacked]:
    """Forms under attack, and those whose mails still wait after one."""
    held = dict(quarantine.waiting(session))
    since = {row.form_id: row.started_at for row in session.scalars(select(Attack))}
    rows = session.execute(select(Form.id, Form.slug, Form.controller_id).where(Form.id.in_([*held, *since])))
    return [
        Attacked(form_id, slug, controller_id, since.get(form_id), held.get(form_id, 0))
        for form_id, slug, controller_id in sorted(rows)
    ]
