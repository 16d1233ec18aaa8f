"""The one picture in a mail: off unless switched on, inside the mail, and nothing beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from email import policy
from email.message import EmailMessage
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from signup.core.db import transaction
from signup.core.errors import Invalid
from signup.core.values import utc_now
from signup.mail import linting, pictures, signing
from signup.mail.linting import Allowed
from signup.purposes import actions as purposes
from signup.purposes import branding
from signup.worker import run_until_idle
from tests.conftest import SignedUp, queued_mail
from tests.mail.test_dkim import verified
from tests.mail.test_linting import LINK
from tests.purposes.test_branding import SVG, png
from tests.support import log

LOGO = png(400, 120)


@pytest.fixture
def settings(smtp_server: Any) -> dict[str, str]:
    return {"MAIL_SERVER": smtp_server.host, "MAIL_PORT": str(smtp_server.port), "MAIL_TIMEOUT": "2"}


@pytest.fixture
def shown(app: Flask, demo: Any) -> bytes:
    """The logo is switched on."""
    with transaction() as session:
        branding.set_mail_logo(session, demo.controller.id, LOGO, now=utc_now())
    return LOGO


def images(mail: EmailMessage) -> list[EmailMessage]:
    return [part for part in mail.walk() if part.get_content_maintype() == "image"]  # type: ignore[misc]


def html(mail: EmailMessage) -> str:
    body = mail.get_body(("html",))
    assert body is not None
    return str(body.get_content())


@pytest.mark.req("C2")
def test_no_mail_has_a_picture_when_nobody_switched_it_on(demo: Any, sign_up: Callable[..., SignedUp]) -> None:
    with transaction() as session:
        branding.set_logo(session, demo.controller.id, LOGO, now=utc_now())
    sign_up("anna@kunde.example")
    mail = queued_mail("anna@kunde.example")
    assert images(mail) == []
    assert "<img" not in html(mail)


@pytest.mark.req("C2")
def test_each_mail_carries_exactly_that_picture_when_it_is_switched_on(
    shown: bytes, sign_up: Callable[..., SignedUp]
) -> None:
    sign_up("anna@kunde.example")
    mail = queued_mail("anna@kunde.example")
    assert [part.get_content_type() for part in mail.walk()] == [
        "multipart/alternative",
        "text/plain",
        "multipart/related",
        "text/html",
        "image/png",
    ]
    (picture,) = images(mail)
    assert picture.get_content() == shown
    assert picture.get_content_disposition() == "inline"
    cid = picture["Content-ID"].strip("<>")
    assert html(mail).count("<img") == 1
    assert f'<img src="cid:{cid}" alt="" width="160" height="48"' in html(mail)
    assert "Beispiel GmbH" in html(mail), "whoever sees no pictures reads the name"
    assert not mail.defects
    assert not any(part.defects for part in mail.walk())


@pytest.mark.req("E11")
def test_the_bytes_on_record_are_those_that_leave_when_a_mail_has_a_picture(
    demo: Any, shown: bytes, sign_up: Callable[..., SignedUp], smtp_server: Any
) -> None:
    with transaction() as session:
        signing.make(session, demo.controller, "s1", "rsa", now=utc_now())
        signing.use(session, demo.controller, "s1", now=utc_now())
        key = signing.key_for(session, demo.controller, demo.controller.sender.rpartition("@")[2])
    person = sign_up("anna@kunde.example")
    (queued,) = log.messages(person.contact_id)
    raw = log.raw(queued)
    run_until_idle()
    (sent,) = smtp_server.wait()
    assert sent.content == raw
    assert hashlib.sha256(raw).hexdigest() == queued.sha256
    accepted = next(fact for fact in log.facts(person.contact_id) if fact.kind == "mail.accepted")
    assert accepted.fields["mail_sha256"] == queued.sha256
    assert key is not None
    assert verified(raw, key)
    assert not verified(raw.replace(b"\r\niVBOR", b"\r\niVBOS"), key), "the picture is signed too"


def test_a_form_that_is_at_hand_knows_of_the_picture_when_it_is_switched_on_and_off(
    app: Flask, demo: Any, client: FlaskClient
) -> None:
    counts = []
    for number in range(3):
        with transaction() as session:
            if number == 1:
                branding.set_mail_logo(session, demo.controller.id, LOGO, now=utc_now())
            if number == 2:
                branding.remove_mail_logo(session, demo.controller.id)
        email = f"a{number}@kunde{number}.example"
        assert client.post("/f/demo-de", data={"email": email, "purpose": "product-news"}).status_code == 303
        counts.append(len(images(queued_mail(email))))
    assert counts == [0, 1, 0]


@pytest.mark.req("C2")
@pytest.mark.parametrize("picture", [SVG, b"GIF89a", b"", png() + b"x" * branding.MAX_MAIL_BYTES, LOGO[:20]])
def test_a_picture_is_refused_when_not_every_mail_could_carry_it(app: Flask, demo: Any, picture: bytes) -> None:
    with pytest.raises(Invalid), transaction() as session:
        branding.set_mail_logo(session, demo.controller.id, picture, now=utc_now())
    with transaction() as session:
        assert purposes.get_controller(session, demo.controller.id).mail_logo == ""


def test_the_operator_is_warned_when_they_switch_it_on(app: Flask, demo: Any, tmp_path: Path) -> None:
    path = tmp_path / "logo.png"
    path.write_bytes(LOGO)
    run = app.test_cli_runner().invoke
    on = run(args=["controller", "set", "beispiel", "--mail-logo", str(path)])
    assert (on.exit_code, on.stdout) == (0, "beispiel\n")
    assert "Warning: a picture makes a confirmation mail heavier" in on.stderr
    assert run(args=["mail", "lint", "demo-de"]).output == "nothing stands against it\n"
    assert run(args=["form", "publish", "demo-de"]).exit_code == 0
    eml = run(args=["mail", "preview", "demo-de", "--as", "eml"]).output
    assert "Content-ID: <" in eml
    off = run(args=["controller", "set", "beispiel", "--no-mail-logo"])
    assert (off.exit_code, off.stderr) == (0, "")
    assert "Content-ID" not in run(args=["mail", "preview", "demo-de", "--as", "eml"]).output
    path.write_bytes(SVG)
    refused = run(args=["controller", "set", "beispiel", "--mail-logo", str(path)])
    assert (refused.exit_code, "must be a PNG" in refused.stderr) == (2, True)


def related(page: str, *attached: tuple[str, str]) -> bytes:
    """A mail with this page and these attachments: media type and Content-ID."""
    mail = EmailMessage(policy=policy.SMTP)
    mail["From"], mail["Subject"] = "post@a.example", "Bitte bestätigen"
    mail.set_content("Bitte ansehen.")
    mail.add_alternative(page, subtype="html")
    body = mail.get_body(("html",))
    assert isinstance(body, EmailMessage)
    for kind, cid in attached:
        main, _, sub = kind.partition("/")
        body.add_related(BytesIO(b"x").read(), main, sub, cid=f"<{cid}>")
    return mail.as_bytes()


ONE = '<p>Bitte ansehen.</p><img src="cid:l@a">'


@pytest.mark.req("C2")
@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (related(ONE, ("image/png", "l@a")), set()),
        (related("<p>x</p>", ("image/png", "l@a")), set()),
        (related(ONE), {"part-missing"}),
        (related(ONE, ("image/png", "l@a"), ("image/png", "l@a")), {"too-many-images"}),
        (related(ONE * 2, ("image/png", "l@a")), {"too-many-images"}),
        (related(ONE, ("image/png", "other@a")), {"attachment", "part-missing"}),
        (related(ONE, ("image/gif", "l@a")), {"attachment"}),
        (related(ONE, ("image/png", "l@a"), ("application/pdf", "p@a")), {"too-many-images", "attachment"}),
        (related(ONE.replace("l@a", "m@a"), ("image/png", "l@a")), {"foreign-image"}),
        (related('<img src="data:image/png;base64,x">', ("image/png", "l@a")), {"foreign-image"}),
        (related('<img src="https://a.example/l.png">', ("image/png", "l@a")), {"remote-content"}),
    ],
)
def test_the_linter_lets_exactly_the_one_logo_pass(raw: bytes, expected: set[str]) -> None:
    allowed = Allowed("A GmbH", (), frozenset({LINK}), logo="l@a")
    assert {problem.code for problem in linting.problems(raw, allowed)} == expected
    if not expected:
        off = {problem.code for problem in linting.problems(raw, Allowed("A GmbH", (), frozenset({LINK})))}
        assert "attachment" in off, "switched off, not even that one"


@pytest.mark.parametrize(
    ("size", "displayed"), [((400, 120), (160, 48)), ((60, 40), (30, 20)), ((1000, 20), (280, 6)), ((1, 2000), (1, 48))]
)
def test_the_picture_is_shown_small_and_sharp_whatever_its_size(
    size: tuple[int, int], displayed: tuple[int, int]
) -> None:
    made = pictures.made("0" * 64 + ".png", png(*size), "beispiel.example")
    assert (made.width, made.height) == displayed
    assert made.cid == f"{'0' * 24}@beispiel.example"
    assert all(len(line) <= 76 for line in made.content.split("\r\n"))
