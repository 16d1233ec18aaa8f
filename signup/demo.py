"""What a first start in development holds: one controller, two purposes, a German and an English form."""

from __future__ import annotations

from datetime import datetime

from signup.core.db import Session
from signup.core.values import OPERATOR
from signup.forms import actions as forms
from signup.forms import publishing
from signup.forms.definition import NewForm
from signup.purposes import actions as purposes
from signup.purposes.actions import ControllerView, NewController

CONTROLLER = NewController(
    slug="beispiel",
    name="Beispiel GmbH",
    address="Musterstraße 1, 12345 Musterstadt",
    sender="post@beispiel.example",
    imprint_url="https://www.beispiel.example/impressum",
    privacy_url="https://www.beispiel.example/datenschutz",
)

PURPOSES = {
    "product-news": {
        "label": {"de": "Produktneuheiten", "en": "Product news"},
        "hint": {"de": "zweimal im Monat", "en": "twice a month"},
        "text": {
            "de": "Ja, ich möchte Produktneuheiten der Beispiel GmbH zweimal im Monat per E-Mail bekommen. "
            "Das kann ich jederzeit widerrufen.",
            "en": "Yes, I would like to receive product news from Beispiel GmbH by e-mail twice a month. "
            "I can withdraw this at any time.",
        },
    },
    "invitations": {
        "label": {"de": "Einladungen zu Veranstaltungen", "en": "Invitations to events"},
        "hint": {"de": "etwa viermal im Jahr", "en": "about four times a year"},
        "text": {
            "de": "Ja, ich möchte Einladungen zu Veranstaltungen der Beispiel GmbH etwa viermal im Jahr per E-Mail "
            "bekommen. Das kann ich jederzeit widerrufen.",
            "en": "Yes, I would like to receive invitations to events of Beispiel GmbH by e-mail about four times a "
            "year. I can withdraw this at any time.",
        },
    },
}

FORMS = (
    NewForm(
        slug="demo-de",
        name="Website-Fuß",
        locale="de",
        title="Neues aus der Werkstatt",
        intro="Zwei Mails im Monat über Maschinen, Messen und Menschen. Abmelden geht mit einem Klick.",
        email_label="E-Mail-Adresse",
        submit_label="Anmelden",
        note="Wir schicken Ihnen eine Mail mit einem Link. Erst wenn Sie ihn bestätigen, sind Sie angemeldet. "
        "Widerruf jederzeit.",
        purposes=tuple(PURPOSES),
    ),
    NewForm(
        slug="demo-en",
        name="Website footer",
        locale="en",
        title="News from the workshop",
        intro="Two mails a month about machines, fairs and people. Unsubscribing takes one click.",
        email_label="E-mail address",
        submit_label="Sign up",
        note="We send you a mail with a link. You are signed up only once you confirm it. Withdraw at any time.",
        purposes=tuple(PURPOSES),
    ),
)


def seed(session: Session, *, now: datetime) -> ControllerView:
    """The demo exists: controller, purposes with their texts, both forms published."""
    controller = purposes.create_controller(session, CONTROLLER, now=now)
    for slug, words in PURPOSES.items():
        purposes.create_purpose(session, controller.id, slug, **words, now=now)
    for new in FORMS:
        publish_form(session, controller, new, now=now)
    return controller


def publish_form(session: Session, controller: ControllerView, new: NewForm, *, now: datetime) -> None:
    """A new form with its first version in force."""
    form_id = forms.create(session, controller, new, now=now)
    publishing.publish_as(session, controller, form_id, new, actor=OPERATOR, now=now)
