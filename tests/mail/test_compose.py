"""A mail as exact bytes."""

import re
from email import message_from_bytes, policy

import pytest

from signup.core.db import reading
from signup.mail import compose
from signup.purposes import actions as purposes

VALUES = {
    "confirm_url": "https://anmelden.beispiel.example/confirm/" + "a" * 66,
    "not_me_url": "https://anmelden.beispiel.example/not-me/" + "b" * 66,
    "requested_at": "23. November 2026, 10:14 MEZ",
    "page_host": "www.beispiel.example",
}


@pytest.fixture
def raw(app, now):
    def build(locale="de", **more):
        with reading() as session:
            controller = purposes.find_controller(session, "beispiel")
        items = (("Produktneuheiten", "zweimal im Monat", "Ja, ich möchte das."),)
        wording = compose.Wording("confirm", locale, controller, items, 7)
        return compose.mail_bytes(
            wording, {**VALUES, **more}, recipient="anna@beispiel.de", message_id="<m1@beispiel.example>", now=now
        )

    return build


@pytest.mark.req("E12")
@pytest.mark.req("C4")
def test_headers_are_plain_and_no_list_header_is_among_them(raw):
    message = message_from_bytes(raw(), policy=policy.default)
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"] == "<m1@beispiel.example>"
    assert message["To"] == "anna@beispiel.de"
    assert message["From"].addresses[0].addr_spec == "post@beispiel.example"
    assert message["Reply-To"] is not None
    assert message["Subject"] == "Bitte bestätigen Sie Ihre Anmeldung bei Beispiel GmbH"
    assert message["Date"].datetime.isoformat() == "2026-11-23T09:14:02+00:00"
    assert not [name for name in message if name.lower().startswith(("list-", "precedence"))]


@pytest.mark.req("C1")
def test_text_and_html_say_the_same_and_stay_small(raw):
    message = message_from_bytes(raw(), policy=policy.default)
    text = message.get_body(("plain",)).get_content()
    html = message.get_body(("html",)).get_content()
    for needed in (VALUES["confirm_url"], VALUES["not_me_url"], VALUES["requested_at"], "Produktneuheiten"):
        assert needed in text
        assert needed in html
    assert len(html.encode()) < 15_000
    assert "<img" not in html
    assert "@@" not in text + html


def test_the_bytes_are_ascii_lines_that_any_relay_leaves_alone(raw):
    content = raw()
    assert content.isascii()
    lines = content.split(b"\r\n")
    assert all(b"\n" not in line and b"\r" not in line for line in lines)
    assert max(len(line) for line in lines) <= 78


@pytest.mark.req("E13")
@pytest.mark.parametrize("locale", ["de", "en"])
def test_urls_stand_alone_on_their_line(raw, locale):
    message = message_from_bytes(raw(locale), policy=policy.default)
    lines = message.get_body(("plain",)).get_content().splitlines()
    assert VALUES["confirm_url"] in lines
    assert VALUES["not_me_url"] in lines


def test_values_are_escaped_in_html_and_cannot_reach_a_header(raw):
    content = raw(page_host="<b>x</b>\r\nBcc: victim@example.org")
    message = message_from_bytes(content, policy=policy.default)
    assert message["Bcc"] is None
    assert "<b>x</b>" not in message.get_body(("html",)).get_content()


def test_one_skeleton_serves_every_mail_of_a_wording(raw):
    compose.skeleton.cache_clear()
    for number in range(5):
        raw(confirm_url=f"https://x.example/confirm/{number}")
    assert compose.skeleton.cache_info().misses == 1
    assert not re.search(rb"confirm/0", raw(confirm_url="https://x.example/confirm/9"))
