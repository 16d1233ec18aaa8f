"""Plausible data for each template in each of its states."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

CONTROLLER = {
    "name": "Beispiel GmbH",
    "imprint_url": "https://www.beispiel.example/impressum",
    "privacy_url": "https://www.beispiel.example/datenschutz",
    "address": "Werkstraße 4, 90402 Nürnberg",
    "accent": "#0b5d6b",
    "email": "kontakt@beispiel.example",
}
WHEN = datetime(2026, 11, 23, 8, 14, 2, tzinfo=UTC)
LATER = datetime(2026, 11, 30, 8, 14, 2, tzinfo=UTC)
NONCE = "IjEyMzQ1Njc4OTAi.aSLF2A.q3V8nC2b1kZ0yN5wT7uR9pLmX4s"
PURPOSES = {
    "de": [
        {
            "slug": "product-news",
            "label": "Produktneuheiten",
            "hint": "zweimal im Monat",
            "text": "Ja, ich möchte Produktneuheiten der Beispiel GmbH zweimal im Monat per E-Mail bekommen.",
        },
        {
            "slug": "invitations",
            "label": "Einladungen zu Veranstaltungen",
            "hint": "etwa viermal im Jahr",
            "text": "Ja, ich möchte Einladungen der Beispiel GmbH zu Messen und Werkstatttagen per E-Mail bekommen.",
        },
    ],
    "en": [
        {
            "slug": "product-news",
            "label": "Product news",
            "hint": "twice a month",
            "text": "Yes, I would like to receive product news from Beispiel GmbH by e-mail twice a month.",
        },
        {
            "slug": "invitations",
            "label": "Invitations to events",
            "hint": "about four times a year",
            "text": "Yes, I would like to receive invitations from Beispiel GmbH to fairs and open days by e-mail.",
        },
    ],
}
DEFINITIONS = {
    "de": {
        "title": "Neues aus der Werkstatt",
        "intro": "Zwei Mails im Monat über Maschinen, Messen und Menschen. Abmelden geht mit einem Klick.",
        "email_label": "E-Mail-Adresse",
        "submit_label": "Anmelden",
        "note": "Wir schicken Ihnen eine Mail mit einem Link. Erst wenn Sie ihn bestätigen, sind Sie angemeldet. "
        "Widerruf jederzeit.",
    },
    "en": {
        "title": "News from the workshop",
        "intro": "Two mails a month about machines, fairs and people. One click and you are out.",
        "email_label": "E-mail address",
        "submit_label": "Sign up",
        "note": "We send you a mail with a link. You are signed up only once you confirm it. Withdraw at any time.",
    },
}
MESSAGES = {
    "de": {
        "email": "In der Adresse fehlt das Zeichen @.",
        "purpose": "Bitte wählen Sie mindestens ein Thema.",
        "notice": "Bitte prüfen Sie Ihre Angaben und senden Sie sie noch einmal.",
        "title": "Zu viele Anfragen",
        "message": "Von diesem Anschluss kamen zu viele Anfragen. Nichts ist verloren gegangen.",
    },
    "en": {
        "email": "The address lacks the character @.",
        "purpose": "Please choose at least one topic.",
        "notice": "Please check what you entered and send it once more.",
        "title": "Too many requests",
        "message": "Too many requests came from this connection. Nothing has been lost.",
    },
}


class Field:
    """What the form page reads of a WTForms field."""

    def __init__(self, name: str, data: Any) -> None:
        self.name = name
        self.data = data


class Form:
    """What the form page reads of a WTForms form."""

    def __init__(self, email: str | None = None, purpose: list[str] | None = None) -> None:
        self.email = Field("email", email)
        self.purpose = Field("purpose", purpose)


def _form(locale: str, form: Form, errors: list[dict[str, str]], notice: str | None) -> dict[str, Any]:
    definition = {**DEFINITIONS[locale], "purposes": PURPOSES[locale], "privacy_url": CONTROLLER["privacy_url"]}
    other = ("English", "/f/demo-en") if locale == "de" else ("Deutsch", "/f/demo-de")
    return {
        "form": form,
        "definition": definition,
        "action": "/f/demo-de",
        "hidden": {"form_version": "7", "render_id": "0b9f3d0c7a4e4c15a5f8f8b2f7a5c1d2"},
        "errors": errors,
        "notice": notice,
        "alternate": other,
    }


def _lost(state: str, **changes: Any) -> dict[str, Any]:
    hidden = {"of": "beispiel", "rendered": NONCE}
    return {"state": state, "hidden": hidden, "typed": "", "errors": [], "notice": None, "challenge": None, **changes}


def _confirm(locale: str, state: str, **changes: Any) -> dict[str, Any]:
    return {
        "state": state,
        "address": "a•••@beispiel.example",
        "purposes": PURPOSES[locale],
        "requested_at": WHEN,
        "page_host": "www.beispiel.example",
        "expires_at": LATER,
        "confirmed_at": WHEN if state == "confirmed" else None,
        "nonce": NONCE,
        "action": "/confirm/token",
        "not_me_url": "/not-me/token",
        "form_url": "/f/demo-de",
        "unsubscribe_url": "/unsubscribe/token",
        "preferences_url": "/preferences/token",
        "leads_on": False,
        "onward_url": "https://www.beispiel.example/danke" if state == "confirmed" else None,
        "receipt_url": "/confirm/x/receipt" if state == "confirmed" else None,
        "may_resend": state in ("expired", "replaced"),
        "young": False,
        **changes,
    }


def _unsubscribe(locale: str, state: str, **changes: Any) -> dict[str, Any]:
    return {
        "state": state,
        "scope": None,
        "address": "a•••@beispiel.example",
        "purposes": PURPOSES[locale],
        "nonce": NONCE,
        "action": "/unsubscribe/token",
        "undo": NONCE if state == "ended" else None,
        "why": NONCE if state == "ended" else None,
        "thanks": False,
        "reasons": ("too-many", "not-relevant", "not-asked-for", "other-way", "other"),
        "preferences_url": "/preferences/token" if state in ("active", "restored") else None,
        "unanswered": [PURPOSES[locale][0]["label"]] if state == "restored" else [],
        "young": False,
        "form_url": "/f/demo-de",
        **changes,
    }


def _preferences(locale: str, state: str = "active", **changes: Any) -> dict[str, Any]:
    first, second = PURPOSES[locale]
    return {
        "state": state,
        "address": "a•••@beispiel.example",
        "topics": [{**first, "on": True}, {**second, "on": False}],
        "waiting": [],
        "resend_at": None,
        "frequency": "all",
        "paused_until": None,
        "pauses": (30, 60, 90),
        "nonce": NONCE,
        "action": "/preferences/token",
        "form_url": "/f/demo-de",
        "saved": False,
        "again": False,
        "later": False,
        **changes,
    }


def _not_me(state: str, **changes: Any) -> dict[str, Any]:
    return {
        "state": state,
        "nonce": NONCE if state == "open" else None,
        "action": "/not-me/token",
        "address": "a•••@beispiel.example",
        "young": False,
        **changes,
    }


def _pending(resend_at: datetime | None, **changes: Any) -> dict[str, Any]:
    return {
        "resend_url": "/f/demo-de/pending/x",
        "form_url": "/f/demo-de",
        "nonce": NONCE,
        "resend_at": resend_at,
        "may_resend": resend_at is None,
        "code": True,
        "strict": False,
        "tries_left": 5,
        "wrong": False,
        "young": False,
        **changes,
    }


def _code(locale: str, **changes: Any) -> dict[str, Any]:
    return {**_confirm(locale, "open"), "action": "/code/token", "tries_left": 5, "wrong": False, **changes}


def _address(state: str, *, young: bool = False) -> dict[str, Any]:
    return {
        "state": state,
        "nonce": NONCE if state == "open" else None,
        "action": "/address/token",
        "address": "a•••@beispiel.example",
        "expires_at": LATER,
        "young": young,
    }


def _form_with_fields(locale: str) -> dict[str, Any]:
    """One declared field of each kind, each of them wrong."""
    kinds = ("text", "select", "checkbox", "date", "country", "tel")
    more = {"options": [{"value": "s", "label": "S"}], "max_length": 200, "autocomplete": None, "required": True}
    fields = [{"name": kind, "type": kind, "label": kind.title(), "purpose": f"{kind}.", **more} for kind in kinds]
    wrong = [{"field": kind, "message": MESSAGES[locale]["purpose"]} for kind in kinds]
    values = _form(locale, Form("anna@beispiel.example", ["product-news"]), wrong, None)
    return {**values, "definition": {**values["definition"], "fields": fields}}


def _error(locale: str, code: int, retry_after: int | None) -> dict[str, Any]:
    words = MESSAGES[locale]
    return {"code": code, "title": words["title"], "message": words["message"], "retry_after": retry_after}


def public_pages(locale: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name of a page in a state -> its template and variables."""
    words = MESSAGES[locale]
    wrong = [{"field": name, "message": words[name]} for name in ("email", "purpose")]
    typed = Form("anna.beispiel.example", ["product-news"])
    confirm, unsubscribe = "subscriptions/confirm.html", "subscriptions/unsubscribe.html"
    lost = "subscriptions/unknown.html"
    bare = {"address": None, "purposes": [], "requested_at": None, "page_host": None, "expires_at": None}
    pages: dict[str, tuple[str, dict[str, Any]]] = {
        "form": ("forms/form.html", _form(locale, Form(), [], None)),
        "form-errors": ("forms/form.html", _form(locale, typed, wrong, None)),
        "form-notice": ("forms/form.html", _form(locale, Form("anna@x.example", []), [], words["notice"])),
        "form-meant": ("forms/form.html", {**_form(locale, typed, [], None), "meant": "anna@beispiel.example"}),
        "form-fields": ("forms/form.html", _form_with_fields(locale)),
        "closed": ("forms/closed.html", {}),
        "how": (f"evidence/how.{locale}.html", {"controller": None}),
        **{
            f"receipt-{state}": ("evidence/receipt.html", {"state": state, "seconds": 60, "confirm_path": "/confirm/x"})
            for state in ("waiting", "open", "gone")
        },
        "pending": ("forms/pending.html", _pending(None)),
        "pending-wait": ("forms/pending.html", _pending(WHEN, code=False)),
        "pending-wrong": ("forms/pending.html", _pending(WHEN, wrong=True, tries_left=4)),
        "pending-spent": ("forms/pending.html", _pending(None, wrong=True, tries_left=0, may_resend=False)),
        "pending-strict": ("forms/pending.html", _pending(WHEN, strict=True)),
        "code": ("subscriptions/code.html", _code(locale)),
        "code-wrong": ("subscriptions/code.html", _code(locale, wrong=True, tries_left=1)),
        "preferences": ("subscriptions/preferences.html", _preferences(locale)),
        "preferences-saved": (
            "subscriptions/preferences.html",
            _preferences(locale, saved=True, paused_until=LATER, frequency="monthly", waiting=PURPOSES[locale][1:]),
        ),
        "preferences-asked": (
            "subscriptions/preferences.html",
            _preferences(locale, "inactive", waiting=PURPOSES[locale][1:], resend_at=WHEN),
        ),
        "preferences-again": ("subscriptions/preferences.html", _preferences(locale, again=True)),
        "preferences-inactive": ("subscriptions/preferences.html", _preferences(locale, "inactive")),
        "lost-unknown": (lost, _lost("unknown")),
        "lost-nobody": (lost, _lost("unknown", controller=None)),
        "lost-ask": (lost, _lost("ask")),
        "lost-errors": (lost, _lost("ask", typed="anna", errors=wrong[:1])),
        "lost-notice": (lost, _lost("ask", typed="anna@x.example", notice=words["notice"])),
        "lost-asked": (lost, _lost("asked")),
        "confirm-young": (confirm, _confirm(locale, "open", young=True)),
        "confirm-bare": (confirm, _confirm(locale, "expired", may_resend=False, **bare)),
        "confirmed-bare": (confirm, _confirm(locale, "confirmed", **bare)),
        "unsubscribe-thanks": (unsubscribe, _unsubscribe(locale, "ended", why=None, thanks=True)),
        "unsubscribe-topic": (unsubscribe, _unsubscribe(locale, "active", scope=PURPOSES[locale][0]["label"])),
        "not-me-confirmed": ("subscriptions/not_me.html", _not_me("after_confirm", nonce=NONCE)),
        "error-429": ("errors/error.html", _error(locale, 429, 540)),
        "error-503": ("errors/error.html", {**_error(locale, 503, 5), "controller": None}),
        "error-404": ("errors/error.html", {**_error(locale, 404, None), "controller": None}),
    }
    for state in ("open", "confirmed", "expired", "cancelled", "withdrawn", "replaced", "resent", "check"):
        pages[f"confirm-{state}"] = (confirm, _confirm(locale, state))
    for state in ("active", "ended", "restored", "inactive"):
        pages[f"unsubscribe-{state}"] = (unsubscribe, _unsubscribe(locale, state))
    for state in ("open", "confirmed", "gone"):
        pages[f"address-{state}"] = ("contacts/address.html", _address(state))
    pages["address-young"] = ("contacts/address.html", _address("open", young=True))
    for state in ("open", "done", "after_confirm", "check", "gone"):
        pages[f"not-me-{state}"] = ("subscriptions/not_me.html", _not_me(state))
    return pages


MAIL = {
    "item": {
        "id": "1",
        "to": "anna@beispiel.example",
        "subject": "Bitte bestätigen Sie Ihre Anmeldung bei Beispiel GmbH",
    },
    "text": "Bitte bestätigen Sie:\n\nhttp://127.0.0.1:8000/confirm/WyJjIiwiYWJjIl0.q3V8nC2b-_1kZ0yN5wT7uR9pLmX4s_\n\n<b>",
}


def english_pages() -> dict[str, tuple[str, dict[str, Any]]]:
    """Pages for developers, in English only."""
    item = {**MAIL["item"], "received_at": WHEN, "url": "/dev/mailbox/1"}  # type: ignore[dict-item]
    held = {"to": "anna@beispiel.example", "reason": "one mail in 10 minutes", "at": WHEN}
    mail = {
        "headers": [
            ("Subject", item["subject"]),
            ("From", "Beispiel GmbH <post@beispiel.example>"),
            ("To", item["to"]),
            ("Date", "23 Nov 2026"),
        ],
        "text": MAIL["text"],
        "html_url": "/dev/mailbox/1/html",
        "raw_url": "/dev/mailbox/1/raw",
    }
    return {
        "mailbox": ("dev/mailbox.html", {"items": [item, item], "held": [held]}),
        "mailbox-empty": ("dev/mailbox.html", {"items": [], "held": []}),
        "mail": ("dev/mail.html", mail),
        "docs": ("api/docs.html", {"spec": SPEC, "resolve": resolve}),
    }


def resolve(reference: str) -> Any:
    """Return the part of the sample document that a reference names."""
    found: Any = SPEC
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


SPEC: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Signup API",
        "version": "1.0.0",
        "description": "Sign-ups, contacts and proofs.\n\nTimes are UTC.",
    },
    "servers": [{"url": "http://127.0.0.1:8000"}],
    "tags": [{"name": "Subscriptions", "description": "Standing orders of contacts."}],
    "security": [{"bearer": []}],
    "paths": {
        "/api/v1/subscriptions": {
            "get": {
                "tags": ["Subscriptions"],
                "summary": "Find subscriptions",
                "security": [{"bearer": ["subscriptions.read"]}],
                "parameters": [
                    {"name": "email", "in": "query", "schema": {"type": "string", "format": "email"}},
                    {"$ref": "#/components/parameters/Limit"},
                ],
                "responses": {
                    "200": {
                        "description": "One page",
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Page"}}},
                    },
                    "401": {"description": "No valid key"},
                },
            },
            "post": {
                "tags": ["Subscriptions"],
                "summary": "Ask for a subscription",
                "description": "The person gets a mail to confirm. Nothing is active before that.",
                "security": [{"bearer": ["subscriptions.write"]}],
                "requestBody": {
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Request"}}},
                },
                "responses": {"202": {"description": "Taken"}, "422": {"description": "Bad input"}},
            },
        },
        "/api/v1/contacts/{id}": {
            "delete": {
                "summary": "Erase a contact",
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
                "responses": {"202": {"description": "Taken"}},
            },
        },
    },
    "components": {
        "parameters": {
            "Limit": {
                "name": "limit",
                "in": "query",
                "description": "Rows per page",
                "schema": {"type": "integer", "minimum": 1, "maximum": 500, "default": 100},
            },
        },
        "schemas": {
            "Origin": {
                "type": "object",
                "required": ["type"],
                "properties": {
                    "type": {"enum": ["fair", "business-card", "import"]},
                    "detail": {"anyOf": [{"type": "string", "maxLength": 200}, {"type": "null"}]},
                },
            },
            "Request": {
                "type": "object",
                "required": ["email", "purposes", "origin"],
                "properties": {
                    "email": {"type": "string", "format": "email", "description": "The person's address"},
                    "purposes": {"type": "array", "items": {"type": "string", "example": "anna's-news"}},
                    "origin": {"$ref": "#/components/schemas/Origin"},
                },
            },
            "Page": {
                "type": "object",
                "properties": {
                    "items": {"type": "array", "items": {"$ref": "#/components/schemas/Origin"}},
                    "next": {"type": ["string", "null"]},
                },
            },
        },
    },
}

LETTER = {
    "subject": "Gut, dass es geklappt hat",
    "paragraphs": [
        "Ab jetzt bekommen Sie die Neuigkeiten aus der Werkstatt.",
        "Das Heft zur Messe liegt zum Herunterladen bereit.",
    ],
    "download_url": "https://www.beispiel.example/dateien/messeheft-2026-mit-einem-ziemlich-langen-namen.pdf",
}

MAIL_PLACEHOLDERS = {
    "count": "3",
    "period": "16. November 2026, 09:14 MEZ – 23. November 2026, 09:14 MEZ",
    "subscribers": "a•••@beispiel.example\r\nb•••@maschinenbau-und-vertriebsgesellschaft.example\r\n+ 1",
    "confirm_url": "https://anmelden.beispiel.example/confirm/WyJjIiwiYWJjZGVmZ2hpamtsbW5vcHFyc3R1diJd.q3V8nC2b1kZ0yN5wT7uR9pLmX4s",
    "not_me_url": "https://anmelden.beispiel.example/not-me/WyJuIiwiYWJjZGVmZ2hpamtsbW5vcHFyc3R1diJd.q3V8nC2b1kZ0yN5wT7uR9pLmX4s",
    "unsubscribe_url": "https://anmelden.beispiel.example/unsubscribe/WyJ1IiwiYWJjZGVmZ2hpamtsbSJd.q3V8nC2b1kZ0yN5wT7uR9pLmX4s",
    "preferences_url": "https://anmelden.beispiel.example/preferences/WyJ1IiwiYWJjZGVmZ2hpamtsbSJd.q3V8nC2b1kZ0yN5wT7uR9pLmX4s",
    "code_url": "https://anmelden.beispiel.example/code/WyJrIiwiYWJjZGVmZ2hpamtsbW5vcHFyc3R1diJd.q3V8nC2b1kZ0yN5wT7uR9pLmX4s",
    "code": "482 915",
    "requested_at": "23. November 2026, 09:14 Uhr MEZ",
    "page_host": "www.beispiel.example",
}
