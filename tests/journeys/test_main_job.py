"""From form to proof to CRM: the whole way, through real processes, on both databases."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Browser
from sqlalchemy import select
from standardwebhooks import Webhook

from signup.core.db import reading
from signup.mail.models import Message, MessageState
from tests.journeys.visitor import Visitor, visiting
from tests.journeys.world import PATIENCE_SECONDS, Answer, Api, Mail, call
from tests.support.node import run_node
from tests.support.receiver import Answer as Page
from tests.support.receiver import Receiver, Request, running_receiver
from tests.support.servers import Service
from tests.support.smtp import ScriptedSmtp
from tests.support.waiting import wait_for

pytestmark = pytest.mark.browser

ADDRESS = "anna.mueller@beispiel.example"
TYPES = ["subscription.confirmed", "subscription.unsubscribed", "consent.withdrawn"]

# What a site owner pastes: nothing but the two fields.
STATIC_FORM = """<!doctype html><html lang="de"><meta charset="utf-8"><title>Firma</title><h1>Firma</h1>
<form method="post" action="{url}/f/demo-de">
<label>E-Mail <input name="email"></label>
<label><input type="checkbox" name="purpose" value="product-news"> Neues</label>
<button>Los</button></form></html>"""

# What a single-page application does.
FETCHING_PAGE = """<!doctype html><html lang="de"><meta charset="utf-8"><title>App</title><h1>App</h1><output></output>
<script>
async function join(email) {{
  const answer = await fetch("{url}/f/demo-de", {{method: "POST",
    headers: {{"Content-Type": "application/json", "Accept": "application/json"}},
    body: JSON.stringify({{email, purpose: ["product-news"]}})}});
  document.querySelector("output").textContent = answer.status + " " + JSON.stringify(await answer.json());
}}
</script></html>"""


@dataclass
class Crm:
    """What listens to our webhooks."""

    receiver: Receiver
    secret: str

    def event(self, kind: str) -> dict[str, Any]:
        """The one event of this kind, verified by both official libraries."""
        found = wait_for(
            lambda: [item for item in self.receiver.requests if _type(item) == kind],
            seconds=PATIENCE_SECONDS,
            describe=kind,
        )
        assert len(found) == 1
        (request,) = found
        content: dict[str, Any] = Webhook(self.secret).verify(request.body, dict(request.headers))
        assert self._verified_by_node(request) == content
        return content

    def _verified_by_node(self, request: Request) -> Any:
        return run_node(
            """const {Webhook} = require("standardwebhooks");
            const body = Buffer.from(input.body, "base64").toString("utf8");
            process.stdout.write(JSON.stringify(new Webhook(input.secret).verify(body, input.headers)));""",
            body=base64.b64encode(request.body).decode(),
            headers=dict(request.headers),
            secret=self.secret,
        )


def _type(request: Request) -> str:
    return str(json.loads(request.body)["type"])


@pytest.fixture
def crm(api: Api, receiver: Receiver) -> Crm:
    made = api("POST", "/webhook-endpoints", {"url": f"{receiver.url}/in", "types": TYPES})
    assert made.status == 201, made.text
    assert made.json["secret"].startswith("whsec_")
    return Crm(receiver, made.json["secret"])


@contextmanager
def foreign_site(html: str) -> Iterator[str]:
    """A page on another site; `localhost` and `127.0.0.1` are strangers to a browser."""
    with running_receiver() as site:
        site.default = Page(200, {"Content-Type": "text/html; charset=utf-8"}, html.encode())
        yield f"http://localhost:{site.port}/"


def hosted(visitor: Visitor, url: str) -> None:
    visitor.open(f"{url}/f/demo-de")
    assert visitor.page.locator("input[type=checkbox]:checked").count() == 0
    visitor.look_for_barriers()
    visitor.page.get_by_label("E-Mail-Adresse").fill(ADDRESS)
    visitor.page.get_by_label("Produktneuheiten").check()
    visitor.press("Anmelden")
    assert visitor.heading() == "Bitte sehen Sie in Ihr Postfach"
    visitor.look_for_barriers()


def static_page(visitor: Visitor, url: str) -> None:
    with foreign_site(STATIC_FORM.format(url=url)) as site:
        visitor.open(site)
        visitor.page.get_by_label("E-Mail").fill(ADDRESS)
        visitor.page.get_by_label("Neues").check()
        visitor.press("Los")
    assert visitor.page.url.startswith(f"{url}/f/demo-de/pending/")
    visitor.look_for_barriers()


def fetching_page(visitor: Visitor, url: str) -> None:
    with foreign_site(FETCHING_PAGE.format(url=url)) as site:
        visitor.open(site)
        visitor.page.evaluate("address => join(address)", ADDRESS)
        assert visitor.page.locator("output").inner_text() == '202 {"status":"pending"}'


WAYS = {
    "hosted": (hosted, True),
    "no script": (hosted, False),
    "static page": (static_page, False),
    "fetch": (fetching_page, True),
}


@pytest.mark.req("F4")
@pytest.mark.req("E11")
@pytest.mark.req("E12")
@pytest.mark.req("C4")
@pytest.mark.req("C8")
@pytest.mark.req("W1")
@pytest.mark.req("U1")
@pytest.mark.req("U2")
@pytest.mark.parametrize("way", WAYS)
def test_a_person_gets_in_and_out_with_proof_when_everything_is_real(
    way: str, service: Service, inside: Flask, smtp_server: ScriptedSmtp, crm: Crm, api: Api, chromium: Browser
) -> None:
    sign_up, scripts = WAYS[way]
    with visiting(chromium, scripts=scripts) as visitor:
        sign_up(visitor, service.url)
    (received,) = smtp_server.wait(seconds=PATIENCE_SECONDS)
    mail = Mail.of(received)
    check_mail(mail, received.rcpt_tos)
    check_stored(mail.raw)
    # Another device: nothing binds the answer to the browser that signed up.
    with visiting(chromium, scripts=scripts) as visitor:
        confirm(visitor, mail.url("confirm"))
    confirmed = crm.event("subscription.confirmed")["data"]
    check_confirmed(confirmed)
    check_export(api, confirmed, "active")
    leave_by_mail_client(confirmed["subscription"])
    check_withdrawn(crm, confirmed)
    check_export(api, confirmed, "ended")
    with visiting(chromium, scripts=scripts) as visitor:
        visitor.open(mail.url("confirm"))
        assert visitor.heading() == "Diese Anmeldung ist beendet"
        visitor.look_for_barriers()
    assert len(smtp_server.received) == 1


def check_mail(mail: Mail, recipients: tuple[str, ...]) -> None:
    message = mail.message
    assert recipients == (ADDRESS,)
    assert message["To"] == ADDRESS
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"].endswith("@beispiel.example>")
    assert not [name for name in message.keys() if name.lower().startswith(("list-", "precedence"))]  # noqa: SIM118
    assert {part.get_content_type() for part in message.walk()} == {"multipart/alternative", "text/plain", "text/html"}
    for kind in ("confirm", "not-me"):
        assert len(mail.url(kind)) <= 120
        assert mail.url(kind) in mail.part("html")


def check_stored(raw: bytes) -> None:
    """What we know to have sent is what the mail server got."""
    sha256, reply = wait_for(accepted_mail, seconds=PATIENCE_SECONDS, describe="the accepted mail")
    assert sha256 == hashlib.sha256(raw).hexdigest()
    assert reply == "250 2.0.0"


def accepted_mail() -> tuple[str, str] | None:
    query = select(Message.sha256, Message.smtp_reply).where(Message.state == MessageState.ACCEPTED)
    with reading() as session:
        row = session.execute(query).first()
    return (str(row[0]), str(row[1])) if row else None


def confirm(visitor: Visitor, link: str) -> None:
    visitor.open(link)
    assert visitor.page.locator("form").count() == 1
    visitor.look_for_barriers()
    visitor.press("Ja, ich möchte das")
    assert visitor.page.url == link
    assert visitor.heading() == "Sie sind angemeldet"
    visitor.look_for_barriers()


def check_confirmed(data: dict[str, Any]) -> None:
    assert data["contact"]["email"] == ADDRESS
    assert (data["subscription"]["status"], data["subscription"]["ground"]) == ("active", "confirmed")
    assert data["consent"]["purposes"] == ["product-news"]
    assert data["consent"]["requested_at"] < data["consent"]["confirmed_at"]


def leave_by_mail_client(subscription: dict[str, Any]) -> None:
    """As a mail client does: the URL between the angle brackets, the body as the header says, no cookies."""
    url = subscription["list_unsubscribe"].removeprefix("<").removesuffix(">")
    body = subscription["list_unsubscribe_post"]
    assert body == "List-Unsubscribe=One-Click"
    for _ in range(2):
        answer: Answer = call("POST", url, body.encode(), {"Content-Type": "application/x-www-form-urlencoded"})
        assert answer.status == 200
        assert "set-cookie" not in answer.headers


def check_withdrawn(crm: Crm, confirmed: dict[str, Any]) -> None:
    ended, withdrawn = crm.event("subscription.unsubscribed")["data"], crm.event("consent.withdrawn")["data"]
    assert (ended["subscription"]["id"], ended["subscription"]["status"]) == (confirmed["subscription"]["id"], "ended")
    assert ended["subscription"]["version"] > confirmed["subscription"]["version"]
    assert withdrawn["contact"]["id"] == confirmed["contact"]["id"]
    assert [_type(request) for request in crm.receiver.requests].count("subscription.unsubscribed") == 1


def check_export(api: Api, confirmed: dict[str, Any], status: str) -> None:
    answer = api("GET", "/export/subscriptions.jsonl")
    assert answer.status == 200
    (row,) = [json.loads(line) for line in answer.text.splitlines()]
    assert row["email"] == ADDRESS
    assert row["status"] == status
    assert row["list_unsubscribe"] == confirmed["subscription"]["list_unsubscribe"]
    csv = api("GET", "/export/subscriptions.csv")
    assert (csv.status, csv.headers["content-type"].partition(";")[0]) == (200, "text/csv")
    assert ADDRESS in csv.text
