"""Whatever text comes: our own parsers give a value or their own refusal, and a value survives the way back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from signup.core.errors import Invalid
from signup.core.signing import Keys
from signup.core.values import ClientInfo, EmailAddress, clean_text, mask, plain_ip, rfc3339
from signup.forms import rules as rules_of_forms
from signup.web import api
from signup.web.api import ListQuery
from signup.webhooks import rules as rules_of_webhooks
from signup.webhooks.rules import Outcome
from tests.fuzz.conftest import tried

NOW = datetime(2026, 11, 23, 9, 14, 2, 125000, tzinfo=UTC)
KEYS = Keys(("a-secret-that-is-long-enough-for-tests",), b"p" * 32, b"d" * 32)

# Half a character cannot arrive by HTTP as text, but JSON can spell one.
any_text = st.text(st.characters(), max_size=300) | st.text(st.characters(codec="utf-8"), max_size=80)
http_dates = st.datetimes().map(lambda at: at.strftime("%a, %d %b %Y %H:%M:%S GMT"))
nearly_address = st.tuples(any_text, st.sampled_from(["@", "", "@@", "@a."]), any_text).map("".join)


@tried(300)
@given(text=any_text | nearly_address | st.emails())
def test_an_address_is_read_or_refused_with_its_field_when_any_text_comes(text: str) -> None:
    try:
        found = EmailAddress.parse(text)
    except Invalid as refused:
        fields = [error["field"] for error in refused.errors]
        assert fields == ["email"]
        return
    assert found.normalised.isascii()
    assert not set(found.normalised) & set("\r\n\x00 ")
    assert len(found.typed) <= 254
    assert EmailAddress.parse(found.normalised).comparable == found.comparable
    assert mask(found.normalised).endswith("@" + found.normalised.rpartition("@")[2])


@tried(200)
@given(
    value=any_text | st.none() | st.integers().map(str) | st.datetimes().map(lambda at: at.strftime("%a, %d %b %Y %T"))
)
def test_a_delay_is_at_most_a_day_whatever_the_receiver_asks_for(value: str | None) -> None:
    verdict = rules_of_webhooks.classify(503, value, 1, now=NOW, jitter=0.0)
    assert verdict.outcome is Outcome.RETRY
    assert verdict.retry_at is not None
    assert NOW + timedelta(seconds=5) <= verdict.retry_at <= NOW + timedelta(days=1)


@tried(200)
@given(text=st.text(max_size=400), name=st.sampled_from(["contacts", "forms"]))
def test_a_cursor_is_ours_or_refused_when_any_text_comes(text: str, name: str) -> None:
    try:
        place = api.position(name, ListQuery(cursor=text))
    except Invalid as refused:
        fields = [error["field"] for error in refused.errors]
        assert fields == ["cursor"]
    else:
        assert api.page(name, ListQuery(limit=1), [place, "more"], str).next is not None


@pytest.fixture
def backend() -> str:
    return "sqlite"


@tried(100)
@given(place=st.from_regex(r"\A[A-Za-z0-9_-]{1,100}\Z"))
def test_a_cursor_leads_back_to_its_place_and_to_no_other_list(place: str) -> None:
    cursor = api.page("contacts", ListQuery(limit=1), [place, "more"], str).next
    assert api.position("contacts", ListQuery(cursor=cursor)) == place
    with pytest.raises(Invalid):
        api.position("forms", ListQuery(cursor=cursor))


@tried(200)
@given(moment=st.datetimes(min_value=datetime(1000, 1, 1), timezones=st.timezones()))  # noqa: DTZ001 - hypothesis adds one
def test_a_time_comes_back_to_the_millisecond_when_written(moment: datetime) -> None:
    try:
        text = rfc3339(moment)
    except OverflowError:
        # The year before 1 or after 9999 in UTC.
        assert moment.year in (1, 9999)
        return
    assert len(text) == len("2026-11-23T09:14:02.125Z")
    assert timedelta() <= moment - datetime.fromisoformat(text) < timedelta(milliseconds=1)


@tried(200)
@given(
    token=any_text | st.binary(max_size=80).map(lambda raw: raw.decode("latin-1")),
    purpose=st.sampled_from(["confirm", ""]),
)
def test_a_token_is_none_of_ours_when_any_text_comes(token: str, purpose: str) -> None:
    assert KEYS.open_token(purpose, token) is None
    assert KEYS.page_age(purpose, b"x" * 16, token, NOW) is None
    assert not KEYS.page_is_fresh(purpose, b"x" * 16, token, NOW)


@tried(200)
@given(ident=st.binary(min_size=16, max_size=16), change=st.integers(0, 65), by=st.integers(1, 255))
def test_a_token_opens_as_it_is_and_not_when_one_character_differs(ident: bytes, change: int, by: int) -> None:
    token = KEYS.token("confirm", ident)
    assert KEYS.open_token("confirm", token) == ident
    assert KEYS.open_token("not-me", token) is None
    other = token[:change] + chr((ord(token[change]) + by) % 256) + token[change + 1 :]
    assert KEYS.open_token("confirm", other) is None


@tried(200)
@given(ident=st.binary(min_size=1, max_size=32), sealed=st.binary(max_size=100))
def test_sealed_bytes_open_only_when_we_sealed_them(ident: bytes, sealed: bytes) -> None:
    plain, wrapped = KEYS.new_data_key()
    assert KEYS.unwrap(wrapped) == plain
    assert KEYS.unseal(plain, KEYS.seal(plain, ident)) == ident
    with pytest.raises(ValueError, match=r"sealed bytes|Nonce"):
        KEYS.unseal(plain, sealed)


@tried(200)
@given(text=any_text | st.ip_addresses().map(str))
def test_a_client_is_described_when_its_address_is_any_text(text: str) -> None:
    ip = plain_ip(text)
    assert plain_ip(ip) == ip
    assert len(ClientInfo(ip, "connection", "").network) <= 60
    assert not set(clean_text(text, 40)) & set("\r\n\x00")


@tried(200)
@given(url=any_text | st.sampled_from(["http://[", "https://a:99999", "http://a:b", "https://[::1]:80"]))
def test_an_origin_is_one_or_none_when_the_url_is_any_text(url: str) -> None:
    found = rules_of_forms.origin_of(url)
    assert found is None or rules_of_forms.origin_of(found) == found
    assert rules_of_forms.listed((), url) is False


@tried(100)
@given(text=any_text)
def test_a_secret_is_read_or_refused_when_any_text_comes(text: str) -> None:
    for candidate in (text, "whsec_" + text):
        try:
            key = rules_of_webhooks.parse_secret(candidate)
        except ValueError:
            continue
        assert 24 <= len(key) <= 64


# Everything that a browser's text box, or a program, may send as a field of the form.
@tried(60)
@given(email=any_text, purpose=st.lists(any_text, max_size=3), version=any_text, render=any_text)
def test_the_form_answers_calmly_when_its_fields_are_any_text(
    shared_app: Flask, email: str, purpose: list[str], version: str, render: str
) -> None:
    fields = {"email": email, "purpose": purpose, "form_version": version, "render_id": render}
    answer = shared_app.test_client().post("/f/demo-de", json=fields)
    assert answer.status_code in (303, 422)
