"""Reading what comes back, without a database: real shapes, odd shapes, and anything at all."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signup.core import plus
from signup.intake import reports
from signup.intake.kinds import Kind
from signup.intake.reports import read
from tests.bounces.samples import arf, dsn, mail

OURS = "<mail_01k.0a1b2c3d@beispiel.example>"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("5.1.1", Kind.HARD),
        ("5.0.0", Kind.HARD),
        ("5.2.1", Kind.HARD),
        ("5.4.4", Kind.HARD),
        ("5.2.2", Kind.SOFT),
        ("5.3.4", Kind.SOFT),
        ("5.7.1", Kind.SOFT),
        ("4.2.2", Kind.SOFT),
        ("4.4.7", Kind.SOFT),
    ],
)
def test_the_status_decides_whether_the_address_is_gone_when_a_mail_failed(status: str, kind: Kind) -> None:
    report = read(dsn(OURS, status=status))
    assert (report.kind, report.status, report.message_ids) == (kind, status, (OURS,))
    assert report.recipient == "somebody@else.example"


@pytest.mark.parametrize(
    ("action", "kind"),
    [("delayed", Kind.DELAYED), ("delivered", Kind.IGNORED), ("relayed", Kind.IGNORED), ("Failed", Kind.HARD)],
)
def test_the_action_decides_when_it_is_no_failure(action: str, kind: Kind) -> None:
    assert read(dsn(OURS, action=action, status="5.1.1")).kind is kind


def test_the_quoted_mail_is_found_when_only_its_headers_are_quoted() -> None:
    assert read(dsn(OURS, quoted="text/rfc822-headers")).message_ids == (OURS,)


def test_the_reply_code_speaks_when_there_is_no_status() -> None:
    raw = dsn(OURS).replace(b"Status: 5.1.1\r\n", b"").replace(b"550 5.1.1", b"550")
    assert (read(raw).kind, read(raw).status) == (Kind.HARD, "5.0.0")


def test_the_worst_counts_when_several_recipients_are_named() -> None:
    more = (
        b"Final-Recipient: rfc822; b@kunde.example\r\nAction: delayed\r\nStatus: 4.0.0\r\n\r\nFinal-Recipient: rfc822;"
    )
    assert read(dsn(OURS).replace(b"Final-Recipient: rfc822;", more, 1)).kind is Kind.HARD


def test_an_encoded_report_is_read_when_a_server_encodes_what_it_should_not() -> None:
    plain = dsn(OURS)
    fields = plain.partition(b"message/delivery-status\r\n\r\n")[2].partition(b"\r\n--EB4F35A0C2")[0]
    encoded = b"Content-Transfer-Encoding: base64\r\n\r\n" + _base64(fields)
    raw = plain.replace(b"\r\n" + fields, encoded, 1)
    assert (read(raw).kind, read(raw).message_ids) == (Kind.HARD, (OURS,))


def _base64(content: bytes) -> bytes:
    return base64.encodebytes(content).replace(b"\n", b"\r\n")


@pytest.mark.parametrize("kind", ["abuse", "fraud", "opt-out"])
def test_a_complaint_names_the_mail_and_its_return_path_when_read(kind: str) -> None:
    report = read(arf(OURS, kind=kind))
    assert (report.kind, report.message_ids) == (Kind.COMPLAINT, (OURS,))
    assert "news@beispiel.example" in report.addresses


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "no headers"),
        (b"\x00\xff\xfe" * 50, "no headers"),
        (dsn(OURS)[:900], "recipient's status"),
        (dsn(OURS, status="9.9.9").replace(b"550 9.9.9 ", b""), "status of failure"),
        (dsn(OURS).replace(b"message/delivery-status", b"text/plain"), "machine-readable part"),
        (arf(OURS, kind="love-letter"), "unknown kind"),
        (arf(OURS).replace(b"Feedback-Type: abuse\r\n", b""), "does not say"),
    ],
)
def test_the_reason_is_named_when_it_cannot_be_read(raw: bytes, reason: str) -> None:
    report = read(raw, ["bounce+x@beispiel.example"])
    assert report.kind is Kind.UNREADABLE
    assert reason in report.reason
    assert report.addresses == ("bounce+x@beispiel.example",)


def test_nobody_unwraps_for_ever_when_parts_are_nested_without_end() -> None:
    deep = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(3000))
    assert read(b"From: x@y.example\r\n" + deep).kind is Kind.UNREADABLE


def test_a_mail_inside_the_quoted_mail_is_not_meant_when_it_is_a_report_too() -> None:
    inner = dsn("<inner@of.ours>").decode()
    raw = f"From: anna@kunde.example\r\nContent-Type: message/rfc822\r\n\r\n{inner}".encode()
    assert read(raw).kind is Kind.UNSUBSCRIBE


SEEDS = [dsn(OURS), dsn(OURS, quoted="text/rfc822-headers"), arf(OURS), mail("leave+abc@beispiel.example"), b""]


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=2000))
def test_anything_is_read_without_an_error_when_it_is_noise(raw: bytes) -> None:
    assert isinstance(read(raw), reports.Report)


@settings(max_examples=400, deadline=None)
@given(seed=st.sampled_from(SEEDS), cuts=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=40)), max_size=6))
def test_anything_is_read_without_an_error_when_a_real_report_is_damaged(
    seed: bytes, cuts: list[tuple[float, bytes]]
) -> None:
    raw = seed
    for place, piece in cuts:
        start = int(place * len(raw))
        raw = raw[:start] + piece + raw[start + len(piece) // 2 :]
    report = read(raw)
    # What is kept of it can be stored and shown.
    for text in (report.reason, report.status, report.diagnostic, report.text, report.recipient, *report.message_ids):
        assert "\x00" not in text
        text.encode()
    assert bool(report.status) <= (report.kind in (Kind.HARD, Kind.SOFT, Kind.DELAYED, Kind.IGNORED))


@given(st.binary(min_size=1, max_size=26))
def test_a_token_comes_back_as_it_was_when_mail_servers_change_the_case(data: bytes) -> None:
    address = plus.with_token("leave@beispiel.example", plus.spelled(data))
    token = plus.token_in(f"<{address.upper()}>", "leave@beispiel.example")
    assert token is not None
    assert plus.unspelled(token) == data
    assert plus.token_in(address, "other@beispiel.example") is None


LAYERS = b"".join(
    b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (depth, depth) for depth in range(reports.MAX_LAYERS)
)
QUOTED = b"Content-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/rfc822\n\nMessage-ID: <"
ENDLESS = {
    "one word to": b"To: " + b"a" * 1_000_000 + b"\n\n",
    "an id of ats": QUOTED + b"@a" * 500_000 + b"\n\nx\n--b--\n",
    "layers": LAYERS + b"\n" * 5_000_000,
    "more layers": LAYERS * 20 + b"\n" * 5_000_000,
    "groups": b"Content-Type: message/delivery-status\n\n" + b"a:\n\n" * 2_000_000,
    "parts": b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\n" * 2_000_000,
}


@pytest.mark.parametrize("name", ENDLESS)
def test_it_takes_a_moment_when_a_stranger_builds_a_mail_to_keep_us_busy(name: str) -> None:
    # Of the thread's own time, ten times what it takes; unbounded, each of them takes minutes.
    started = time.thread_time()
    read(ENDLESS[name])
    assert time.thread_time() - started < 10


def test_few_names_are_looked_up_when_a_mail_names_thousands() -> None:
    to = ", ".join(f"leave+{number}@beispiel.example" for number in range(5000))
    quoted = " ".join(f"<{number}@beispiel.example>" for number in range(5000))
    assert len(read(f"To: {to}\n\n".encode()).addresses) == reports.MAX_NAMES
    assert len(read(dsn(quoted)).message_ids) <= reports.MAX_NAMES
