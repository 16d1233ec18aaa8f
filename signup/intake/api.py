"""Mails that came back, brought by a program."""

from __future__ import annotations

from typing import Annotated

from flask import abort, request
from msgspec import Meta, Struct

from signup.core.db import Session
from signup.intake import actions, reports
from signup.intake.actions import Arrival
from signup.intake.kinds import Way
from signup.web import api, errors
from signup.web.api import Call

blueprint = api.blueprint("intake")


class Report(Struct):
    """What became of a mail."""

    id: str
    kind: Annotated[str, Meta(description="hard, soft, delayed, complaint, unsubscribe, ignored or unreadable.")]
    outcome: Annotated[
        str, Meta(description="ended, counted, recorded, unknown (about no mail of yours), ignored or waiting (kept).")
    ]
    repeated: Annotated[bool, Meta(description="It was here before and counts once.")]


@api.operation(blueprint, "POST", "/inbound-mail", scope="mail.report", status=202, takes="message/rfc822")
def bring_mail(session: Session, call: Call) -> Report:
    """Bring a mail that came back.

    A bounce, a complaint or a mail that unsubscribes, as it came, up to 1 MiB. Only mails of the key's controller
    can be meant.
    """
    if request.get_data() and request.mimetype not in ("message/rfc822", "message/global", "application/octet-stream"):
        abort(errors.problem(415, "unsupported-media-type", "Send the mail as it is, as `message/rfc822`."))
    raw = request.get_data()
    arrival = Arrival(Way.API, raw, reports.read(raw), actions.own_id(raw, ()))
    taken = actions.take(session, call.controller_id, arrival, now=call.now)
    return Report(taken.id, taken.kind.value, taken.outcome.value, taken.repeated)
