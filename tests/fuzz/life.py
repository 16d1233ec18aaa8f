"""The life of a subscription as the contract tells it, written a second time, in plain Python."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

PURPOSES = ("invitations", "product-news")
FORMS = ("demo-de", "demo-en")
TOKEN_LIFE = timedelta(days=7)
UNDO = timedelta(minutes=30)
SAME_PRESS = timedelta(hours=24)
NOT_ME_BLOCK = timedelta(days=90)
HELD_AFTER_EXPIRY = timedelta(hours=12)
CAPS = ((1, timedelta(minutes=10)), (3, timedelta(hours=24)), (5, timedelta(days=30)))
# What the owner's own confirmation lifts; after the others no mail goes out.
LIFTED = {"erased", "objected", "unsubscribed"}
GROUND_OF_BASIS = {"gdpr-6-1-b": "contract", "eprivacy-13-2": "soft-opt-in"}
SUPPRESSED_AFTER = {
    "unsubscribed": "unsubscribed",
    "withdrawn": "unsubscribed",
    "objected": "objected",
    "bounced": "bounced",
    "complained": "complained",
}


@dataclass
class Question:
    """One mailed question; `link` is known only if its mail went out."""

    form: str
    purposes: set[str]
    asked_at: datetime
    state: str = "open"
    link: bytes | None = None

    def lives(self, now: datetime) -> bool:
        return self.state == "open" and now < self.asked_at + TOKEN_LIFE


@dataclass
class Consent:
    state: str
    asked_at: datetime
    ended_at: datetime | None = None
    ended_by: str | None = None
    locale: str | None = None  # of the wording that was shown; None when none was


@dataclass
class Press:
    """One press of a form's button, and the waiting page that it led to."""

    handle: str
    form: str
    pressed_at: datetime
    counted_from: datetime


@dataclass
class Person:
    """What we must hold about one address, and what must have been told about it."""

    email: str
    known: bool = False  # whether there is a contact
    basis: str = ""
    status: str | None = None
    ground: str | None = None
    reason: str | None = None
    ended_by: str | None = None
    ended_at: datetime | None = None
    ever_active: bool = False
    flagged: bool = False
    consents: dict[str, Consent] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)
    blocks: dict[str, datetime | None] = field(default_factory=dict)
    mails: list[datetime] = field(default_factory=list)
    presses: list[Press] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    published: list[str] = field(default_factory=list)

    def in_state(self, state: str) -> set[str]:
        return {slug for slug, held in self.consents.items() if held.state == state}

    def open_on(self, form: str) -> Question | None:
        return next((item for item in self.questions if item.form == form and item.state == "open"), None)

    def newest_on(self, form: str) -> Question:
        return [item for item in self.questions if item.form == form][-1]

    def blocked_by(self, now: datetime) -> set[str]:
        return {reason for reason, until in self.blocks.items() if until is None or now < until}

    def may_mail(self, now: datetime) -> bool:
        return all(sum(moment > now - span for moment in self.mails) < count for count, span in CAPS)

    def tell(self, *kinds: str, outside: bool = True) -> None:
        self.events += kinds
        if outside:
            self.published += kinds

    # --- asking ------------------------------------------------------------------------------------------------------

    def request(self, form: str, wanted: set[str], now: datetime) -> str:
        """What a sign-up leads to: `asked` (a mail with a link), `held`, `blocked`, or `known` (a notice at most)."""
        open_ = self.open_on(form)
        waits = open_ if open_ and open_.lives(now) else None
        asked = (waits.purposes | self.in_state("requested")) if waits else set()
        confirm = (asked | wanted) - self.in_state("given")
        blocked = bool(self.blocked_by(now) - LIFTED)
        first, self.known = not self.known, True
        if first:
            self.basis = "gdpr-6-1-a"
        self.events.append("subscription.requested")
        if self.status is not None and blocked:
            return "blocked"
        if not confirm:
            return "known"
        self.published.append("subscription.requested")
        may_mail = self.may_mail(now) and not blocked
        if self.status != "active":
            self.status, self.ground, self.reason = "requested", None, None
            self.ended_by, self.ended_at, self.flagged = None, None, False
        renewed = confirm if may_mail or not waits else confirm - waits.purposes
        for slug in renewed:
            self.consents[slug] = Consent("requested", now, locale=form.removeprefix("demo-"))
        if may_mail or not waits:
            self._ask(form, confirm, now, replaces=open_)
        return "asked" if may_mail else "held"

    def _ask(self, form: str, purposes: set[str], now: datetime, *, replaces: Question | None) -> None:
        if replaces is not None:
            replaces.state = "replaced"
        self.questions.append(Question(form, set(purposes), now))

    def resend(self, form: str, now: datetime) -> bool:
        """Whether a fresh link for what is still asked on this form goes out."""
        newest = self.newest_on(form)
        if self.status not in ("requested", "expired", "active") or newest.state not in ("open", "expired"):
            return False
        if self.blocked_by(now) - LIFTED or not self.may_mail(now):
            return False
        expired = {slug for slug in newest.purposes & set(self.consents) if self.consents[slug].state == "expired"}
        again = expired if newest.state == "expired" else set()
        asked = self.in_state("requested") | again
        if not asked:
            return False
        for slug in again:
            self.consents[slug].state, self.consents[slug].ended_at = "requested", None
        if self.status == "expired":
            self.status, self.ended_at = "requested", None
        self._ask(form, asked, now, replaces=newest)
        self.events.append("confirmation.resent")
        return True

    def stands_for(self, question: Question, now: datetime) -> str:
        """What the link of a question says now."""
        state = question.state
        if state == "replaced" and self.newest_on(question.form).state != "open":
            state = self.newest_on(question.form).state
        if state == "open":
            return "open" if question.lives(now) else "expired"
        if state == "confirmed":
            return "confirmed" if question.purposes & self.in_state("given") else "withdrawn"
        return "cancelled" if state == "refused" else state

    # --- answering ---------------------------------------------------------------------------------------------------

    def confirm(self, question: Question, now: datetime) -> None:
        if self.stands_for(question, now) != "open":
            return
        asked = question.purposes & self.in_state("requested")
        if not asked:
            question.state = "confirmed" if question.purposes & self.in_state("given") else "cancelled"
            return
        question.state = "confirmed"
        for slug in asked:
            self.consents[slug].state = "given"
            # They said yes to the words that this question showed.
            self.consents[slug].locale = question.form.removeprefix("demo-")
        if self.status == "active":
            self.tell("subscription.updated")
        else:
            self.status, self.ground, self.ever_active = "active", "confirmed", True
            self.tell("subscription.confirmed")
        for reason in LIFTED:
            self.blocks.pop(reason, None)

    def not_me(self, question: Question, now: datetime) -> None:
        stands = self.stands_for(question, now)
        if question.state == "refused" or stands not in ("open", "replaced", "confirmed"):
            return
        if stands == "confirmed":
            self.end("withdrawn", "not-me", now)
            self.flagged = True
        else:
            for other in self.questions:
                other.state = "refused" if other.state == "open" else other.state
            self._close_requests("refused", now)
            if self.status == "requested":
                self.status, self.ended_at = "refused", now
            self.tell("subscription.refused", outside=False)
        question.state = "refused"
        self.blocks["not-me"] = now + NOT_ME_BLOCK

    def _close_requests(self, state: str, now: datetime) -> None:
        for slug in self.in_state("requested"):
            self.consents[slug].state, self.consents[slug].ended_at = state, now

    # --- ending ------------------------------------------------------------------------------------------------------

    def end(self, reason: str, by: str, now: datetime) -> None:
        was, block = self.status, SUPPRESSED_AFTER[reason]
        alive = was in ("requested", "active")
        if not alive and (block not in ("objected", "bounced", "complained") or block in self.blocked_by(now)):
            return
        for slug in self.in_state("given"):
            held = self.consents[slug]
            held.state, held.ended_at, held.ended_by = ("expired" if reason == "bounced" else "withdrawn"), now, by
        self._close_requests("refused", now)
        for question in self.questions:
            question.state = "cancelled" if question.state == "open" else question.state
        self.blocks[block] = None
        if was in ("active", "ended"):
            self.status, self.reason, self.ended_by, self.ended_at = "ended", reason, by, now
            self.flagged = False
        elif was == "requested":
            self.status, self.ended_at = "refused", now
        if was == "requested" and reason != "bounced":
            self.tell("subscription.refused", outside=False)
        elif reason == "bounced":
            self.tell("subscription.bounced", outside=alive)
        else:
            self.tell("subscription.unsubscribed", "consent.withdrawn", outside=was == "active")
        if reason == "objected":
            self.tell("contact.objected")

    def end_topic(self, slug: str, by: str, now: datetime) -> None:
        given = self.in_state("given")
        if slug not in given:
            return
        if given == {slug}:
            self.end("unsubscribed", by, now)
            return
        held = self.consents[slug]
        held.state, held.ended_at, held.ended_by = "withdrawn", now, by
        self.tell("subscription.updated", "consent.withdrawn")

    def undo(self, slug: str | None, now: datetime) -> None:
        """By the button of the page that just ended it; `slug` when that page was about one topic."""
        if self.status == "ended":
            if self.reason != "unsubscribed" or self.ended_by != "page" or now - (self.ended_at or now) > UNDO:
                return
            back = {name for name, held in self.consents.items() if held.state == "withdrawn"}
            back = {name for name in back if self.consents[name].ended_at == self.ended_at}
        else:
            found = self.consents.get(slug or "")
            if self.status != "active" or found is None or found.state != "withdrawn" or found.ended_by != "page":
                return
            if now - (found.ended_at or now) > UNDO:
                return
            back = {slug or ""}
        for name in back:
            self.consents[name].state = "given"
            self.consents[name].ended_at = self.consents[name].ended_by = None
        self.status, self.reason, self.ended_by, self.ended_at = "active", None, None, None
        self.blocks.pop("unsubscribed", None)
        self.tell("subscription.restored")

    # --- entered by a program ----------------------------------------------------------------------------------------

    def enter(self, basis: str, wanted: set[str], now: datetime) -> bool:
        """Whether a customer may be entered; False is a 409."""
        if self.blocked_by(now) or self.status == "ended":
            return False
        new = wanted - self.in_state("given")
        if self.status == "active" and not new:
            return True
        if not self.known:
            self.known, self.basis = True, basis
            self.tell("contact.created")
        for slug in new:
            self.consents[slug] = Consent("given", now)
        if self.status == "active":
            self.tell("subscription.updated")
        else:
            self.status, self.ground, self.ever_active, self.ended_at = "active", GROUND_OF_BASIS[basis], True, None
            self.tell("subscription.activated")
        return True

    # --- time --------------------------------------------------------------------------------------------------------

    def retain(self, now: datetime) -> bool:
        """What is over its time goes; whether the whole person went."""
        due = [item for item in self.questions if item.state == "open" and not item.lives(now)]
        for question in due:
            question.state = "expired"
        still_open = any(item.state == "open" for item in self.questions)
        if due and not still_open:
            self._close_requests("expired", now)
            if self.status == "requested":
                self.status, self.ended_at = "expired", max(item.asked_at for item in due) + TOKEN_LIFE
                self.tell("subscription.expired")
        for held in self.consents.values():
            if held.state == "requested" and held.asked_at <= now - TOKEN_LIFE and not still_open:
                held.state, held.ended_at = "expired", now
        self.presses = [item for item in self.presses if now < item.pressed_at + SAME_PRESS]
        over = self.status == "refused" or (
            self.status == "expired" and self.ended_at is not None and self.ended_at <= now - HELD_AFTER_EXPIRY
        )
        if over and not self.ever_active and self.basis == "gdpr-6-1-a":
            self.forget()
            return True
        return False

    def forget(self) -> None:
        """Nothing about the person is left but the blocks and the counted mails."""
        self.known, self.status, self.ended_at = False, None, None
        self.consents, self.questions, self.presses = {}, [], []
        self.events, self.published = [], []
