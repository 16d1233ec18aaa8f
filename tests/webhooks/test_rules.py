"""Webhook decisions: schedule, Retry-After, secrets and signatures, with the official library as the oracle."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from signup.webhooks.rules import SCHEDULE_SECONDS, Outcome, Verdict, classify, new_secret, parse_secret, sign

NOW = datetime(2026, 11, 23, 12, 0, 0, 123000, tzinfo=UTC)


def wait(verdict: Verdict) -> float:
    assert verdict.outcome is Outcome.RETRY
    assert verdict.retry_at is not None
    return (verdict.retry_at - NOW).total_seconds()


# --- schedule


@pytest.mark.req("W15")
def test_attempts_follow_the_schedule_when_every_one_fails():
    at = NOW
    waits = []
    attempt = 1
    while (verdict := classify(500, None, attempt, now=at, jitter=0)).outcome is Outcome.RETRY:
        assert verdict.retry_at is not None
        waits.append((verdict.retry_at - at).total_seconds())
        at = verdict.retry_at
        attempt += 1
    assert waits == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert verdict == Verdict(Outcome.DEAD)
    assert attempt == len(SCHEDULE_SECONDS) == 10
    assert at - NOW >= timedelta(hours=72)


@pytest.mark.req("W15")
@given(attempt=st.integers(1, 9), jitter=st.floats(-1, 1))
def test_the_wait_stays_within_a_fifth_when_jitter_is_drawn(attempt, jitter):
    base = SCHEDULE_SECONDS[attempt]
    assert base * 0.8 - 0.001 <= wait(classify(None, None, attempt, now=NOW, jitter=jitter)) <= base * 1.2


@pytest.mark.req("W15")
def test_jitter_reaches_both_ends_when_it_is_drawn_extreme():
    assert wait(classify(500, None, 2, now=NOW, jitter=-1)) == 240
    assert wait(classify(500, None, 2, now=NOW, jitter=1)) == 360


@pytest.mark.req("W15")
def test_an_own_schedule_is_followed_when_the_endpoint_has_one():
    assert wait(classify(500, None, 1, now=NOW, jitter=0, schedule=(0, 7))) == 7
    assert classify(500, None, 2, now=NOW, jitter=0, schedule=(0, 7)).outcome is Outcome.DEAD


def test_retry_time_is_utc_with_milliseconds_when_now_has_another_zone():
    local = NOW.astimezone(timezone(timedelta(hours=5, minutes=45)))
    retry_at = classify(500, None, 1, now=local, jitter=0.123456).retry_at
    assert retry_at is not None
    assert retry_at.tzinfo is UTC
    assert retry_at.microsecond % 1000 == 0
    assert 5 <= (retry_at - NOW).total_seconds() <= 5.13


@pytest.mark.parametrize(
    ("attempt", "jitter", "now"), [(0, 0, NOW), (1, 1.01, NOW), (1, -1.01, NOW), (1, 0, NOW.replace(tzinfo=None))]
)
def test_classify_refuses_when_its_input_makes_no_sense(attempt, jitter, now):
    with pytest.raises(ValueError):
        classify(500, None, attempt, now=now, jitter=jitter)


# --- outcome


@pytest.mark.req("W16")
@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
@pytest.mark.parametrize("attempt", [1, 10, 11])
def test_a_delivery_is_done_when_the_answer_is_2xx(status, attempt):
    assert classify(status, None, attempt, now=NOW, jitter=0) == Verdict(Outcome.DELIVERED)


@pytest.mark.req("W16")
@pytest.mark.parametrize(
    "status", [None, 100, 101, 199, 300, 301, 302, 303, 307, 308, 400, 401, 404, 409, 411, 422, 429, 500, 502, 503, 504]
)
def test_a_delivery_is_tried_again_when_the_answer_is_anything_else(status):
    assert classify(status, None, 1, now=NOW, jitter=0).outcome is Outcome.RETRY
    assert classify(status, None, 10, now=NOW, jitter=0) == Verdict(Outcome.DEAD)


@pytest.mark.req("W16")
@pytest.mark.parametrize("attempt", [1, 10])
def test_the_endpoint_is_gone_when_it_answers_410(attempt):
    assert classify(410, "5", attempt, now=NOW, jitter=0) == Verdict(Outcome.GONE)


# --- Retry-After


@pytest.mark.req("W16")
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 120 ", 120),
        ("3600", 3600),
        ("86400", 86400),
        ("86401", 86400),
        ("9" * 5000, 86400),
        ("Mon, 23 Nov 2026 13:00:00 GMT", 3599.877),
        ("Monday, 23-Nov-26 13:00:00 GMT", 3599.877),
        ("Mon, 23 Nov 2026 14:00:00 +0100", 3599.877),
        ("Mon, 23 Nov 2026 13:00:00 -0000", 3599.877),
        ("Wed, 23 Nov 2033 13:00:00 GMT", 86400),
    ],
)
def test_retry_after_is_honoured_up_to_a_day_when_it_is_sent(status, value, seconds):
    assert wait(classify(status, value, 1, now=NOW, jitter=1)) == pytest.approx(seconds, abs=0.001)


@pytest.mark.req("W16")
@pytest.mark.parametrize(
    "value", [None, "", " ", "soon", "-5", "1.5", "٣", "0x10", "Mon, 99 Nov 2026 13:00:00 GMT", "\x00", "1e3", "," * 99]
)
def test_the_schedule_holds_when_retry_after_is_missing_or_bad(value):
    assert wait(classify(503, value, 2, now=NOW, jitter=0)) == 300


@pytest.mark.req("W16")
@pytest.mark.parametrize("value", ["0", "1", "299", "Mon, 23 Nov 2020 13:00:00 GMT"])
def test_attempts_are_not_used_up_sooner_when_retry_after_is_short(value):
    assert wait(classify(429, value, 2, now=NOW, jitter=0)) == 300


@pytest.mark.parametrize("status", [500, 502, 404, 301, None])
def test_retry_after_is_ignored_when_the_status_does_not_carry_it(status):
    assert wait(classify(status, "7200", 1, now=NOW, jitter=0)) == 5


def test_a_delivery_is_dead_when_retry_after_comes_with_the_last_attempt():
    assert classify(503, "60", 10, now=NOW, jitter=0) == Verdict(Outcome.DEAD)


@given(value=st.text(max_size=60), attempt=st.integers(1, 9))
def test_classify_never_fails_when_a_receiver_sends_any_text(value, attempt):
    assert 0.8 * SCHEDULE_SECONDS[attempt] - 0.001 <= wait(classify(429, value, attempt, now=NOW, jitter=-1)) <= 86400


# --- secrets


@pytest.mark.req("W3")
def test_a_new_secret_holds_32_random_bytes_when_made():
    secrets = {new_secret() for _ in range(50)}
    assert len(secrets) == 50
    for secret in secrets:
        assert secret.startswith("whsec_")
        assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
        assert len(parse_secret(secret)) == 32


@pytest.mark.req("W3")
@pytest.mark.parametrize("length", [24, 25, 26, 32, 64])
def test_a_secret_is_read_when_it_has_24_to_64_bytes(length):
    key = bytes(range(length))
    text = "whsec_" + base64.b64encode(key).decode()
    assert parse_secret(text) == parse_secret(text.rstrip("=")) == key


@pytest.mark.req("W3")
@pytest.mark.parametrize("length", [0, 1, 5, 23, 65, 1000])
def test_a_secret_is_refused_when_it_is_too_short_or_too_long(length):
    with pytest.raises(ValueError, match="24 to 64 bytes"):
        parse_secret("whsec_" + base64.b64encode(bytes(length)).decode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whsk_" + base64.b64encode(bytes(32)).decode(),
        base64.b64encode(bytes(32)).decode(),
        "whsec_" + "ä" * 44,
        "whsec_" + "*" * 44,
        "whsec_" + "A" * 41,
        "whsec_ " + base64.b64encode(bytes(32)).decode(),
        "whsec_" + base64.urlsafe_b64encode(b"\xff" * 33).decode(),
    ],
)
def test_a_secret_is_refused_without_being_repeated_when_it_is_malformed(text):
    with pytest.raises(ValueError) as caught:
        parse_secret(text)
    assert text.removeprefix("whsec_")[:8] not in str(caught.value) or len(text) < 8


# --- signatures (verify() compares with the real clock, so these sign now)


def body_of(size: int) -> bytes:
    text = json.dumps({"name": "Zoë Müßig", "emoji": "🐙🏳️‍🌈", "fill": "ä" * size}, ensure_ascii=False)
    return text.encode()


@pytest.mark.req("W1")
@pytest.mark.parametrize("size", [0, 10, 10_000])
def test_the_official_library_verifies_when_we_signed(size):
    secret, body = new_secret(), body_of(size)
    headers = sign(secret, "msg_01ABC", datetime.now(UTC), body)
    assert set(headers) == {"webhook-id", "webhook-timestamp", "webhook-signature"}
    assert Webhook(secret).verify(body, headers) == json.loads(body)


@pytest.mark.req("W1")
def test_the_official_library_refuses_when_one_byte_differs():
    secret, body = new_secret(), body_of(10)
    headers = sign(secret, "msg_1", datetime.now(UTC), body)
    for changed, with_headers in (
        (body.replace(b"fill", b"fall"), headers),
        (body, {**headers, "webhook-id": "msg_2"}),
        (body, {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}),
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(changed, with_headers)


@pytest.mark.req("W2")
def test_only_time_and_signature_change_when_an_attempt_is_repeated():
    secret, body, at = new_secret(), body_of(10), datetime.now(UTC)
    first = sign(secret, "msg_1", at, body)
    later = sign(secret, "msg_1", at + timedelta(seconds=3), body)
    assert first["webhook-id"] == later["webhook-id"]
    assert int(later["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 3
    assert first["webhook-signature"] != later["webhook-signature"]
    assert Webhook(secret).verify(body, later)


def test_the_signature_is_right_when_the_time_is_in_another_zone():
    secret, body, at = new_secret(), b"{}", datetime.now(UTC)
    tokyo = at.astimezone(timezone(timedelta(hours=9)))
    assert sign(secret, "msg_1", tokyo, body) == sign(secret, "msg_1", at, body)
    Webhook(secret).verify(body, sign(secret, "msg_1", tokyo, body))


def test_each_receiver_verifies_when_several_secrets_sign():
    new, old, other = new_secret(), new_secret(), new_secret()
    headers = sign([new, old], "msg_1", datetime.now(UTC), b'{"a":1}')
    assert len(headers["webhook-signature"].split(" ")) == 2
    assert Webhook(new).verify(b'{"a":1}', headers) == Webhook(old).verify(b'{"a":1}', headers) == {"a": 1}
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(b'{"a":1}', headers)


@pytest.mark.parametrize("message_id", ["", "msg.1", "msg 1", "msg\n1", "ä", "a" * 256])
def test_sign_refuses_when_the_id_could_be_misread(message_id):
    with pytest.raises(ValueError, match="message id"):
        sign(new_secret(), message_id, datetime.now(UTC), b"{}")


def test_sign_refuses_when_time_is_naive_or_secrets_are_missing_or_body_is_not_text():
    with pytest.raises(ValueError, match="aware"):
        sign(new_secret(), "msg_1", datetime(2026, 1, 1), b"{}")  # noqa: DTZ001 - the naive time is the point
    with pytest.raises(ValueError, match="secret"):
        sign([], "msg_1", datetime.now(UTC), b"{}")
    with pytest.raises(ValueError, match="utf-8"):
        sign(new_secret(), "msg_1", datetime.now(UTC), b"\xff")
