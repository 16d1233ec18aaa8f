"""The second look: what a sign-up tells beside its fields, and what our own page adds when that raises a doubt."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from werkzeug.datastructures import MultiDict

from signup.abuse import challenge, domains, sources
from signup.abuse.admission import Look
from signup.abuse.limits import Place
from signup.core.signing import Keys
from signup.core.values import EmailAddress
from signup.forms import rules
from signup.forms.rules import FormView

# Off the screen and out of the tab order. The name means nothing, so that no browser finds something to fill in.
HONEYPOT = "zq_k7"
# When the page was rendered; a pasted form has none, and that is no sign of anything.
RENDERED = "rendered"
# Only our second page has it.
SECOND = "second_look"
# "No, I meant what I typed."
AS_TYPED = "as_typed"
# The button of a suggestion carries the other address.
INSTEAD = "email_instead"
FAST_SECONDS = 2.0
# A form page left open over a weekend is slow, not strange.
MAX_SECOND_LOOK_SECONDS = 3600.0


class Door(Protocol):
    """What a press is counted for: a form, or another page that mails follow from."""

    @property
    def id(self) -> str: ...

    @property
    def allowed_origins(self) -> tuple[str, ...]: ...


def look(
    keys: Keys,
    view: Door,
    data: MultiDict[str, str],
    email: EmailAddress,
    *,
    unlisted: bool,
    origin: str | None,
    now: datetime,
) -> Look:
    """What there is to see of a sign-up.

    Args:
        unlisted: it comes from a site that staff did not name.
        origin: where it says it comes from.
    """
    source = sources.name_of(keys, view.id, data[sources.FIELD]) if sources.FIELD in data else None
    named = bool(origin and view.allowed_origins) and rules.listed(view.allowed_origins, origin or "")
    place = Place.SOURCE if source else Place.LISTED if named else Place.ANYWHERE
    payload = data.get(challenge.FIELD)
    return Look(
        signals=_signals(keys, view, data, email, now=now),
        place=place,
        source=source or "",
        unlisted=unlisted,
        proof=challenge.verify(keys, view.id, payload, now=now) if payload else None,
        by_hand=SECOND in data and _is_second(keys, view, data[SECOND], now=now),
    )


def _signals(
    keys: Keys, view: Door, data: MultiDict[str, str], email: EmailAddress, *, now: datetime
) -> tuple[str, ...]:
    found = []
    if data.get(HONEYPOT):
        found.append("honeypot")
    age = keys.page_age(RENDERED, view.id.encode(), data[RENDERED], now) if RENDERED in data else None
    if age is not None and age < FAST_SECONDS:
        found.append("fast")
    if domains.is_disposable(email.comparable.rpartition("@")[2]):
        found.append("disposable")
    return tuple(found)


def _is_second(keys: Keys, view: Door, nonce: str, *, now: datetime) -> bool:
    age = keys.page_age(SECOND, view.id.encode(), nonce, now)
    return age is not None and 0 <= age <= MAX_SECOND_LOOK_SECONDS


def is_vouched(data: MultiDict[str, str]) -> bool:
    """Whether a sign-up brings anything that may make up for where it comes from."""
    return bool(data.get(challenge.FIELD)) or SECOND in data


def hidden(keys: Keys, view: Door, source: str | None, *, now: datetime) -> dict[str, str]:
    """The fields that every page of ours sends along: when it was made, and by which signed source it was opened."""
    fields = {RENDERED: keys.page_nonce(RENDERED, view.id.encode(), now)}
    if source and sources.name_of(keys, view.id, source):
        fields[sources.FIELD] = source
    return fields


def second(keys: Keys, view: Door, *, now: datetime) -> dict[str, str]:
    """The fields that our second page sends along; a script fills the proof in, and without one it may be empty."""
    return {SECOND: keys.page_nonce(SECOND, view.id.encode(), now), challenge.FIELD: ""}


def challenge_url(view: FormView) -> str:
    return f"/f/{view.slug}/challenge"


def chosen(data: MultiDict[str, str]) -> MultiDict[str, str]:
    """`data` with the suggested address, when its button was pressed."""
    instead = data.get(INSTEAD)
    if not instead:
        return data
    changed = MultiDict(data)
    changed["email"] = instead
    return changed


def suggestion(email: EmailAddress, data: MultiDict[str, str]) -> str | None:
    """The address that was probably meant, for a button; nothing is corrected by itself, and nobody is asked twice."""
    if data.get(AS_TYPED) == email.typed or INSTEAD in data:
        return None
    local, _, domain = email.normalised.rpartition("@")
    known = domains.meant(domain.lower())
    return f"{local}@{known}" if known else None
