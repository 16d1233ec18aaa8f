"""Notices of providers and mails brought by programs: real signatures, real TLS, recorded samples."""

from __future__ import annotations

import json
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from sqlalchemy import select

from signup.core import outbound
from signup.core.db import database, reading
from signup.intake import providers, send, sns
from signup.intake.kinds import Kind
from signup.intake.models import InboundReport
from signup.subscriptions.states import EndReason, Status
from tests.bounces.conftest import BOUNCES, sent, subscription
from tests.bounces.samples import dsn
from tests.conftest import SignedUp, queued_mail
from tests.support.certificates import make_certificate
from tests.support.receiver import Answer, Receiver, running_receiver

TOPIC = "arn:aws:sns:eu-central-1:123456789012:bounces"
HOST = "sns.eu-central-1.amazonaws.com"
CERTIFICATE = f"https://{HOST}/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem"
TOKEN = "brevo-tells-us-2f6c1d9a0b7e"
RECORDED = Path(__file__).parent / "recorded"
Person = Callable[..., SignedUp]


@pytest.fixture
def settings() -> dict[str, str]:
    return {"SIGNUP_BOUNCE_ADDRESS": BOUNCES, "SIGNUP_SES_TOPICS": TOPIC, "SIGNUP_BREVO_TOKEN": TOKEN}


def recorded(name: str, person: SignedUp, *, message_id: str | None = None, source: str | None = None) -> bytes:
    text = (RECORDED / f"{name}.json").read_text(encoding="utf-8")
    mail = sent(person)
    text = text.replace("<MESSAGE-ID>", mail.message_id if message_id is None else message_id)
    return text.replace("<SOURCE>", mail.envelope_from if source is None else source).encode()


@dataclass
class Amazon:
    """SNS of our own: signs as Amazon does, and has its certificate behind real TLS."""

    receiver: Receiver
    key: rsa.RSAPrivateKey
    certificate: bytes
    sent: int = 0
    asked: list[str] = field(default_factory=list)

    def notice(self, message: bytes, **changes: str) -> dict[str, str]:
        self.sent += 1
        fields = {
            "Type": "Notification",
            "MessageId": f"22b80b92-fdea-4c2c-8f9d-{self.sent:012d}",
            "TopicArn": TOPIC,
            "Message": message.decode(),
            "Timestamp": "2026-11-23T09:14:39.000Z",
            "SignatureVersion": "2",
            "SigningCertURL": CERTIFICATE,
            "UnsubscribeURL": f"https://{HOST}/?Action=Unsubscribe",
            **changes,
        }
        return {**fields, "Signature": self.signature(fields)}

    def signature(self, fields: dict[str, str]) -> str:
        # Spelled out, so that a mistake in the program is not repeated here.
        names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
        if fields["Type"] != "Notification":
            names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
        content = "".join(f"{name}\n{fields[name]}\n" for name in names if name in fields)
        algorithm = hashes.SHA1() if fields["SignatureVersion"] == "1" else hashes.SHA256()
        return b64encode(self.key.sign(content.encode(), padding.PKCS1v15(), algorithm)).decode()


def signing_certificate(name: str = "sns.amazonaws.com", *, days: int = 30) -> tuple[rsa.RSAPrivateKey, bytes]:
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test Amazon RSA")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    return key, made.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def amazon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Amazon]:
    server = make_certificate(tmp_path / "tls", names=(HOST,))
    key, certificate = signing_certificate()
    with running_receiver(tls=server.context()) as receiver:
        receiver.default = Answer(200, body=certificate)
        made = Amazon(receiver, key, certificate)
        trust = ssl.create_default_context(cafile=str(server.trust_file))
        real = outbound.get

        def get(url: str, *, allowance: outbound.Allowance) -> outbound.Reply:
            # The name leads to this machine and another port; everything else is as it is.
            made.asked.append(url)
            there = url.replace(HOST, f"{HOST}:{receiver.port}")
            return real(there, allowance=allowance, resolver=lambda _host, _port: ["127.0.0.1"], tls=trust)

        monkeypatch.setattr(send.outbound, "get", get)
        yield made


def post(client: FlaskClient, name: str, content: Any, **headers: str) -> Any:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    # SNS sends its JSON as text.
    return client.post(f"/inbound/{name}", data=data, content_type="text/plain; charset=UTF-8", headers=headers)


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_signed_bounce_of_amazon_ends_the_request_once_when_it_comes_twice(
    client: FlaskClient, amazon: Amazon, sign_up: Person, version: str
) -> None:
    person = sign_up("anna@kunde.example")
    # Without the original headers only the return path says which mail it was.
    notice = amazon.notice(recorded("ses-bounce", person, message_id=""), SignatureVersion=version)
    answer = post(client, "ses", notice)
    assert (answer.status_code, answer.json["kind"], answer.json["outcome"]) == (200, "hard", "ended")
    assert subscription(person).status is Status.REFUSED
    assert post(client, "ses", notice).json["id"] == answer.json["id"]
    assert amazon.asked == [CERTIFICATE]


def test_a_complaint_of_amazon_withdraws_when_only_the_original_header_names_the_mail(
    client: FlaskClient, amazon: Amazon, signup_and_confirm: Person
) -> None:
    person = signup_and_confirm("anna@kunde.example")
    notice = amazon.notice(recorded("ses-complaint", person, source="news@beispiel.example"), Subject="Amazon SES")
    assert post(client, "ses", notice).json["outcome"] == "ended"
    assert subscription(person).end_reason is EndReason.COMPLAINED


def test_a_delivery_is_answered_and_not_stored_when_amazon_tells_it(
    client: FlaskClient, amazon: Amazon, sign_up: Person
) -> None:
    assert post(client, "ses", amazon.notice(recorded("ses-delivery", sign_up("anna@kunde.example")))).json == {
        "outcome": "ignored"
    }
    assert stored() == []


def stored() -> list[InboundReport]:
    with reading() as session:
        return list(session.scalars(select(InboundReport)))


CHANGES: list[dict[str, str]] = [
    {"Message": "{}"},
    {"TopicArn": "arn:aws:sns:eu-central-1:999999999999:other"},
    {"SigningCertURL": "https://sns.eu-central-1.amazonaws.com.evil.example/SimpleNotificationService-01234567.pem"},
    {"SigningCertURL": "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem"},
    {"SigningCertURL": f"http://{HOST}/SimpleNotificationService-0123456789abcdef.pem"},
    {"SigningCertURL": f"https://x@{HOST}/SimpleNotificationService-0123456789abcdef.pem"},
    {"SigningCertURL": f"https://{HOST}/some-bucket/evil.pem"},
    {"Signature": "AAAA"},
    {"Signature": "no base64 \u00e9"},
    {"SignatureVersion": "3"},
    {"SignatureVersion": "1"},
    {"Type": "Other"},
    {"Type": ["Notification"]},
    {"SigningCertURL": "https://[sns"},
    {"MessageId": "another"},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_nothing_happens_when_a_notice_is_not_what_amazon_signed(
    client: FlaskClient, amazon: Amazon, sign_up: Person, change: dict[str, Any]
) -> None:
    person = sign_up("anna@kunde.example")
    notice = amazon.notice(recorded("ses-bounce", person))
    assert post(client, "ses", {**notice, **change}).status_code == 403
    assert set(amazon.asked) <= {CERTIFICATE}
    assert subscription(person).status is Status.REQUESTED
    assert stored() == []
    assert post(client, "ses", notice).status_code == 200


@pytest.mark.parametrize(("name", "days"), [("evil.example", 30), ("sns.amazonaws.com", -1)])
def test_nothing_happens_when_the_certificate_is_another_or_out_of_date(
    client: FlaskClient, amazon: Amazon, sign_up: Person, name: str, days: int
) -> None:
    amazon.key, amazon.receiver.default = (made := signing_certificate(name, days=days))[0], Answer(200, body=made[1])
    assert post(client, "ses", amazon.notice(recorded("ses-bounce", sign_up("a@kunde.example")))).status_code == 403


def test_amazon_sends_it_again_when_the_certificate_cannot_be_had(
    client: FlaskClient, amazon: Amazon, sign_up: Person
) -> None:
    person = sign_up("anna@kunde.example")
    amazon.receiver.answers.append(Answer(500))
    notice = amazon.notice(recorded("ses-bounce", person))
    answer = post(client, "ses", notice)
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    assert post(client, "ses", notice).json["outcome"] == "ended"


def test_a_malformed_message_is_kept_when_amazon_signed_it(client: FlaskClient, amazon: Amazon) -> None:
    for message in (b"no json", b"[]", b'{"mail": {}}'):
        answer = post(client, "ses", amazon.notice(message))
        assert (answer.status_code, answer.json["kind"], answer.json["outcome"]) == (200, "unreadable", "waiting")
    assert post(client, "ses", b"\xff\x00 no json").status_code == 422


def test_a_topic_may_send_only_when_the_operator_says_so(app: Any, client: FlaskClient, amazon: Amazon) -> None:
    url = f"https://{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37"
    request = {"Type": "SubscriptionConfirmation", "Token": "2336412f37", "SubscribeURL": url}
    ident = post(client, "ses", amazon.notice(b"You have chosen to subscribe", **request)).json["id"]
    assert amazon.asked == [CERTIFICATE]
    run = app.test_cli_runner().invoke
    assert "confirmation" in run(args=["bounces", "list"]).output
    assert run(args=["bounces", "confirm", ident]).output == "confirmed\n"
    assert amazon.asked == [CERTIFICATE, url]
    assert run(args=["bounces", "list"]).output == ""
    assert run(args=["bounces", "confirm", ident]).exit_code == 2
    elsewhere = {**request, "SubscribeURL": "https://evil.example/?Action=ConfirmSubscription"}
    ident = post(client, "ses", amazon.notice(b"again", **elsewhere)).json["id"]
    assert run(args=["bounces", "confirm", ident]).exit_code == 2
    assert len(amazon.asked) == 2


@pytest.mark.parametrize(
    ("name", "kind", "outcome", "reason"),
    [
        ("hard_bounce", "hard", "ended", EndReason.BOUNCED),
        ("soft_bounce", "soft", "counted", None),
        ("deferred", "delayed", "recorded", None),
        ("spam", "complaint", "ended", EndReason.COMPLAINED),
        ("unsubscribed", "unsubscribe", "ended", EndReason.UNSUBSCRIBED),
    ],
)
def test_a_notice_of_brevo_counts_once_when_it_has_the_token(
    client: FlaskClient, signup_and_confirm: Person, name: str, kind: str, outcome: str, reason: EndReason | None
) -> None:
    person = signup_and_confirm("anna@kunde.example")
    notice = recorded(f"brevo-{name}", person)
    basic = "Basic " + b64encode(f"signup:{TOKEN}".encode()).decode()
    answers = [post(client, "brevo", notice, Authorization=value).json for value in (f"Bearer {TOKEN}", basic)]
    assert answers[0] == answers[1]
    assert (answers[0]["kind"], answers[0]["outcome"]) == (kind, outcome)
    assert subscription(person).end_reason is reason


def test_a_mail_carries_the_mark_that_brevo_repeats_when_brevo_is_set_up(sign_up: Person) -> None:
    person = sign_up("anna@kunde.example")
    assert queued_mail(person.email)["X-Mailin-custom"] == sent(person).message_id


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", "Basic !!!", "Basic c2lnbnVwOg==", f"Token {TOKEN[1:]}"],
)
def test_nothing_is_read_when_the_token_is_missing_or_wrong(
    client: FlaskClient, sign_up: Person, authorization: str
) -> None:
    person = sign_up("anna@kunde.example")
    answer = post(client, "brevo", recorded("brevo-hard_bounce", person), Authorization=authorization)
    assert answer.status_code == 401
    assert stored() == []


def test_a_malformed_notice_is_kept_when_it_has_the_token(client: FlaskClient) -> None:
    answer = post(client, "brevo", b"{", Authorization=f"Bearer {TOKEN}")
    assert (answer.status_code, answer.json["outcome"]) == (200, "waiting")


def test_a_provider_is_not_there_when_it_is_unknown_or_not_set_up(app: Any, client: FlaskClient) -> None:
    intake = app.extensions["signup.config"].intake
    object.__setattr__(intake, "brevo_token", None)
    object.__setattr__(intake, "ses_topics", ())
    for name in ("ses", "brevo", "other"):
        assert post(client, name, {}, Authorization="Bearer ").status_code == 404
    assert client.get("/inbound/ses").status_code == 405


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just("Bounce"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["notificationType", "bounce", "mail", "headers", "event", "status"]), inner)
    ),
    max_leaves=12,
)


@limits(max_examples=200, deadline=None)
@given(content=JSON, noise=st.binary(max_size=40))
def test_anything_is_read_without_an_error_when_a_provider_sends_it(content: Any, noise: bytes) -> None:
    for provider in providers.PROVIDERS.values():
        assert isinstance(providers.read(provider, json.dumps(content).encode()).kind, Kind)
        assert isinstance(providers.read(provider, noise).kind, Kind)
    with pytest.raises(sns.Refused):
        sns.envelope(content, [TOPIC])


def test_a_certificate_is_asked_for_once_when_many_notices_come(app: Any, amazon: Amazon) -> None:
    for _ in range(3):
        assert send.certificate(database(), CERTIFICATE) == amazon.certificate
    assert amazon.asked == [CERTIFICATE]


def test_a_program_brings_a_mail_when_its_key_may(client: FlaskClient, demo: Any, sign_up: Person) -> None:
    person = sign_up("anna@kunde.example")
    raw = dsn(sent(person).message_id)
    owner = {"Authorization": f"Bearer {demo.api_key}"}

    def bring(content: bytes, content_type: str = "message/rfc822", **headers: str) -> Any:
        return client.post("/api/v1/inbound-mail", data=content, content_type=content_type, headers=headers)

    assert bring(raw).status_code == 401
    assert bring(raw, "application/json", **owner).status_code == 415
    first, second = bring(raw, **owner), bring(raw, **owner)
    assert (first.status_code, first.json["outcome"], first.json["repeated"]) == (202, "ended", False)
    assert (second.json["id"], second.json["repeated"]) == (first.json["id"], True)
    assert bring(b"noise", **owner).json["outcome"] == "waiting"
    assert subscription(person).status is Status.REFUSED
    described = client.get("/api/v1/openapi.json").json["paths"]["/api/v1/inbound-mail"]["post"]
    assert list(described["requestBody"]["content"]) == ["message/rfc822"]
