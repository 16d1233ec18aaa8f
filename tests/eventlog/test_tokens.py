"""Time stamps: only what the pinned authority signed over this very note, while its certificate was good, is taken."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from signup.core.evidence import TsaConfig
from signup.core.values import utc_now
from signup.eventlog import tokens
from signup.eventlog.tokens import TokenInvalid
from tests.support.tsa import DAY, Authority, make_authority
from tests.support.waiting import wait_for

NOTE = "signup.example.org/evidence\n3\nAAAA\n\n\u2014 signup.example.org/evidence xyz\n".encode()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tsa") / "good")


def pinned(authority: Authority, policy: str | None = None) -> TsaConfig:
    return TsaConfig(None, (authority.certificate,), (authority.root,), policy)


def test_a_token_tells_its_time_and_authority_when_it_is_good(authority: Authority) -> None:
    asked, before = tokens.request_for(NOTE), datetime.now(UTC).replace(microsecond=0)
    stamp = tokens.checked(pinned(authority), authority.reply(asked.as_bytes()), NOTE, asked)
    assert before <= stamp.stamped_at <= datetime.now(UTC)
    assert stamp.authority == tokens.fingerprint(authority.certificate)
    assert stamp.good_until == authority.certificate.not_valid_after_utc
    # The nonce is of that one exchange; the token stays good without it.
    assert tokens.checked(pinned(authority), stamp.raw, NOTE).stamped_at == stamp.stamped_at


@pytest.mark.req("E42")
@pytest.mark.parametrize("sorted_set", [True, False])
def test_a_token_is_refused_when_it_brings_its_own_root_along(
    authority: Authority, tmp_path: Path, sorted_set: bool
) -> None:
    # DER sorts by length first, so a long name puts the root where it belongs.
    name = "x" if sorted_set else "Test time stamping"
    root = "y" * 60 if sorted_set else None
    rogue = make_authority(tmp_path / "rogue", name=name, root_name=root, with_root=True)
    asked = tokens.request_for(NOTE)
    forged = rogue.reply(asked.as_bytes())
    # It is a token that its own authority would be believed for.
    assert tokens.checked(pinned(rogue), forged, NOTE, asked).raw == forged
    with pytest.raises(TokenInvalid):
        tokens.checked(pinned(authority), forged, NOTE, asked)
    # Nor does its own name as an issuer make it the pinned one.
    with pytest.raises(TokenInvalid):
        tokens.checked(replace(pinned(authority), issuers=(authority.root, rogue.root)), forged, NOTE, asked)


@pytest.mark.req("E42")
def test_a_token_is_refused_when_it_answers_something_else(authority: Authority) -> None:
    asked, other = tokens.request_for(NOTE), tokens.request_for(NOTE + b"x")
    raw = authority.reply(asked.as_bytes())
    with pytest.raises(TokenInvalid, match="Mismatch between messages"):
        tokens.checked(pinned(authority), authority.reply(other.as_bytes()), NOTE)
    with pytest.raises(TokenInvalid, match="Nonce mismatch"):
        tokens.checked(pinned(authority), raw, NOTE, tokens.request_for(NOTE))
    with pytest.raises(TokenInvalid, match="Policy ID mismatch"):
        tokens.checked(pinned(authority, "1.2.3.4"), raw, NOTE, asked)
    assert tokens.checked(pinned(authority, authority.policy), raw, NOTE, asked).raw == raw


@pytest.mark.req("E42")
def test_a_token_is_refused_when_the_certificate_had_ended_at_its_time(tmp_path: Path) -> None:
    ended = make_authority(tmp_path / "ended", begins=-3 * DAY, ends=-DAY)
    asked = tokens.request_for(NOTE)
    with pytest.raises(TokenInvalid, match="certificates"):
        tokens.checked(pinned(ended), ended.reply(asked.as_bytes()), NOTE, asked)


@pytest.mark.req("E42")
@pytest.mark.parametrize("with_root", [False, True])
def test_a_token_is_taken_when_its_certificate_has_ended_only_since(tmp_path: Path, with_root: bool) -> None:
    brief = make_authority(tmp_path / "brief", ends=timedelta(seconds=3), with_root=with_root)
    asked = tokens.request_for(NOTE)
    raw = brief.reply(asked.as_bytes())
    wait_for(lambda: datetime.now(UTC) > brief.certificate.not_valid_after_utc, seconds=20, describe="its end")
    assert tokens.checked(pinned(brief), raw, NOTE, asked).stamped_at <= brief.certificate.not_valid_after_utc


def test_a_token_says_the_same_or_is_refused_when_a_byte_is_flipped(authority: Authority) -> None:
    raw = authority.reply(tokens.request_for(NOTE).as_bytes())
    good, taken = tokens.checked(pinned(authority), raw, NOTE), 0
    for at in range(len(raw)):
        flipped = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        try:
            stamp = tokens.checked(pinned(authority), flipped, NOTE)
        except TokenInvalid:
            continue
        taken += 1
        assert replace(stamp, raw=raw) == good
    # A signed message leaves two version numbers and the name of its algorithm unsigned.
    assert taken <= 11


def test_an_answer_with_unsorted_certificates_is_read_by_openssl_when_it_is_good(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = make_authority(tmp_path / "odd", with_root=True)
    asked = tokens.request_for(NOTE)
    raw = odd.reply(asked.as_bytes())
    stamp = tokens.checked(pinned(odd, odd.policy), raw, NOTE, asked)
    assert abs(stamp.stamped_at - utc_now()) < timedelta(minutes=1)
    assert stamp.authority == tokens.fingerprint(odd.certificate)
    refusals = (
        (pinned(authority), NOTE, asked),
        (pinned(odd, "1.2.3.4"), NOTE, asked),
        (pinned(odd), NOTE + b"x", None),
        (pinned(odd), NOTE, tokens.request_for(NOTE)),
    )
    for tsa, note, request in refusals:
        with pytest.raises(TokenInvalid):
            tokens.checked(tsa, raw, note, request)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(TokenInvalid, match="there is no openssl"):
        tokens.checked(pinned(odd), raw, NOTE, asked)


@pytest.mark.parametrize("raw", [b"", b"<html>busy</html>", b"\x30\x05\x30\x03\x02\x01\x02"])
def test_an_answer_is_refused_when_it_is_no_token(authority: Authority, raw: bytes) -> None:
    with pytest.raises(TokenInvalid):
        tokens.checked(pinned(authority), raw, NOTE)


def test_each_pinned_certificate_is_tried_when_there_are_several(authority: Authority, tmp_path: Path) -> None:
    former = make_authority(tmp_path / "former")
    both = TsaConfig(None, (authority.certificate, former.certificate), (authority.root, former.root))
    for each in (authority, former):
        asked = tokens.request_for(NOTE)
        stamp = tokens.checked(both, each.reply(asked.as_bytes()), NOTE, asked)
        assert stamp.authority == tokens.fingerprint(each.certificate)
    assert [anchor["sha256"] for anchor in tokens.anchors(both)] == [
        tokens.fingerprint(each.certificate) for each in (authority, former)
    ]
