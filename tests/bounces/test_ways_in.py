"""The ways by which mails come in: files, pipes and a mail server of our own."""

from __future__ import annotations

import mailbox
import smtplib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from flask import Flask
from sqlalchemy import select

from signup import worker
from signup.alarms import actions as alarms
from signup.alarms.models import AlarmKind
from signup.core.db import reading
from signup.core.errors import Busy
from signup.core.intake import Listen
from signup.intake import actions
from signup.intake.kinds import Outcome, Way
from signup.intake.models import InboundReport
from signup.intake.serving import Reception
from signup.subscriptions.states import Status
from tests.bounces.conftest import BOUNCES, UNSUBSCRIBES, sent, subscription
from tests.bounces.samples import arf, dsn
from tests.conftest import Clock, SignedUp
from tests.support.waiting import wait_for

Person = Callable[..., SignedUp]


def run(app: Flask, *arguments: str, content: bytes = b"") -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=["bounces", *arguments], input=content)
    return result.exit_code, result.output


def kept() -> list[InboundReport]:
    with reading() as session:
        return list(session.scalars(select(InboundReport).order_by(InboundReport.id)))


def test_an_mbox_is_read_mail_by_mail_when_named(app: Flask, sign_up: Person, tmp_path: Path) -> None:
    people = [sign_up(f"{name}@kunde.example") for name in ("anna", "bert")]
    box = mailbox.mbox(tmp_path / "box")
    for number, person in enumerate(people):
        raw = dsn(sent(person).message_id, own_id=f"<{number}@mx.example>")
        box.add(raw.replace(b"I'm sorry", b"From here on I'm sorry"))
    box.close()
    status, output = run(app, "read", str(tmp_path / "box"))
    assert (status, output.splitlines()[-1]) == (0, "2 taken")
    assert [subscription(person).status for person in people] == [Status.REFUSED, Status.REFUSED]
    # Again, and nothing happens twice.
    status, output = run(app, "read", str(tmp_path / "box"))
    assert (status, output.count(" again")) == (0, 2)


def test_new_mails_of_a_maildir_are_read_and_marked_when_named(app: Flask, sign_up: Person, tmp_path: Path) -> None:
    person = sign_up("anna@kunde.example")
    box = mailbox.Maildir(tmp_path / "box", create=True)
    box.add(dsn(sent(person).message_id))
    assert run(app, "read", str(tmp_path / "box"))[1].splitlines()[-1] == "1 taken"
    assert run(app, "read", str(tmp_path / "box"))[1].splitlines()[-1] == "0 taken"
    assert subscription(person).status is Status.REFUSED
    assert len(list((tmp_path / "box" / "cur").iterdir())) == 1


def test_a_mail_server_may_pipe_one_mail_when_it_says_for_whom(app: Flask, sign_up: Person) -> None:
    person = sign_up("anna@kunde.example")
    raw = dsn("<quoted@nothing.example>", to="postmaster@beispiel.example")
    status, output = run(app, "read", "--recipient", sent(person).envelope_from, content=raw)
    assert (status, output.split("\t")[1:]) == (0, ["hard", "ended\n1 taken\n"])


def test_the_mail_server_is_told_to_try_again_when_the_database_is_busy(
    app: Flask, sign_up: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = dsn(sent(sign_up("anna@kunde.example")).message_id)

    def busy(*_arguments: object, **_more: object) -> None:
        raise Busy("The service is busy.", retry_after_seconds=5)

    with monkeypatch.context() as patched:
        patched.setattr(actions, "take", busy)
        assert run(app, "read", content=raw)[0] == 75
    assert run(app, "read", content=raw)[0] == 0


def test_one_line_says_what_is_wrong_when_the_path_is_none(app: Flask, tmp_path: Path) -> None:
    status, output = run(app, "read", str(tmp_path / "nowhere"))
    assert (status, output.count("\n")) == (2, 1)


def test_a_malformed_mail_is_kept_told_and_dropped_when_the_operator_has_seen_it(
    app: Flask, sign_up: Person, clock: Clock
) -> None:
    person = sign_up("anna@kunde.example")
    broken = dsn(sent(person).message_id)[:900]
    assert run(app, "read", content=broken)[0] == 0
    # The next one is read all the same.
    assert run(app, "read", content=dsn(sent(person).message_id))[0] == 0
    assert subscription(person).status is Status.REFUSED
    (row, _) = kept()
    assert (row.outcome, broken in (row.sealed or b"")) == (Outcome.WAITING, False)
    assert row.id in run(app, "list")[1]
    shown = app.test_cli_runner().invoke(args=["bounces", "show", row.id])
    assert shown.stdout_bytes == broken
    with reading() as session:
        found = {item.kind: item.facts for item in alarms.measure(session, now=clock())}
    assert found[AlarmKind.REPORTS_UNREADABLE] == {"count": 1}
    # Totals are counted beside the scrape.
    wait_for(lambda: 'signup_reports{kind="unreadable"} 1.0' in app.test_client().get("/metrics").text)
    assert run(app, "drop", row.id)[1] == "1 dropped\n"
    assert run(app, "list")[1] == ""
    assert run(app, "show", row.id)[0] == 2
    with reading() as session:
        assert AlarmKind.REPORTS_UNREADABLE not in {item.kind for item in alarms.measure(session, now=clock())}


def test_no_disk_is_filled_when_somebody_floods_us(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "MAX_KEPT_A_DAY", 2)
    for number in range(4):
        run(app, "read", content=f"From: x\n\nnoise {number}".encode() + b"x" * 200_000)
    rows = kept()
    assert [row.sealed is not None for row in rows] == [True, True, False, False]
    assert max(len(row.sealed or b"") for row in rows) < 70_000


@pytest.fixture(params=["lmtp", "smtp"])
def listening(app: Flask, clock: Clock, request: pytest.FixtureRequest) -> Iterator[SimpleNamespace]:
    """The worker's own mail server on a free port."""
    config = app.extensions["signup.config"]
    object.__setattr__(config.intake, "listen", Listen(request.param, "127.0.0.1", 0))
    reception = Reception()
    reception(clock)
    yield SimpleNamespace(protocol=request.param, port=reception.port, reception=reception)
    reception.close(clock)


def client_of(listening: SimpleNamespace) -> smtplib.SMTP:
    kind = smtplib.LMTP if listening.protocol == "lmtp" else smtplib.SMTP
    return kind("127.0.0.1", listening.port)


def test_a_bounce_has_its_effect_before_the_mail_server_hears_yes_when_delivered(
    listening: SimpleNamespace, sign_up: Person
) -> None:
    person = sign_up("anna@kunde.example")
    path = sent(person).envelope_from
    with closing(client_of(listening)) as client:
        assert client.sendmail("", [path], dsn("<nothing@quoted.example>")) == {}
        assert subscription(person).status is Status.REFUSED
    assert [(row.way, row.outcome) for row in kept()] == [(Way(listening.protocol), Outcome.ENDED)]


def test_each_recipient_gets_an_answer_when_one_mail_is_for_two(listening: SimpleNamespace, sign_up: Person) -> None:
    person = sign_up("anna@kunde.example")
    with closing(client_of(listening)) as client:
        client.ehlo_or_helo_if_needed()
        client.mail("")
        answers = [client.rcpt(address)[0] for address in (BOUNCES, UNSUBSCRIBES, "root@beispiel.example")]
        assert answers == [250, 250, 550]
        assert client.data(arf(sent(person).message_id))[0] == 250
        if listening.protocol == "lmtp":
            # RFC 2033 4.2; Python's own client reads only the first.
            assert client.getreply()[0] == 250
        # The dialogue is where it should be: the next mail is taken too.
        assert client.sendmail("", [BOUNCES], b"no mail at all") == {}
    assert [row.outcome for row in kept()] == [Outcome.ENDED, Outcome.WAITING]


def test_the_sender_tries_again_when_the_database_is_busy(
    listening: SimpleNamespace, sign_up: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = sign_up("anna@kunde.example")
    raw = dsn(sent(person).message_id)

    def broken(*_arguments: object, **_more: object) -> None:
        raise Busy("The service is busy.", retry_after_seconds=5)

    with closing(client_of(listening)) as client:
        with monkeypatch.context() as patched:
            patched.setattr(actions, "take", broken)
            with pytest.raises((smtplib.SMTPDataError, smtplib.SMTPRecipientsRefused)) as refused:
                client.sendmail("", [BOUNCES], raw)
        assert "451" in str(refused.value)
        client.sendmail("", [BOUNCES], raw)
    assert subscription(person).status is Status.REFUSED


def test_another_worker_listens_when_the_first_one_ends(app: Flask, listening: SimpleNamespace, clock: Clock) -> None:
    config = app.extensions["signup.config"]
    object.__setattr__(config.intake, "listen", Listen(listening.protocol, "127.0.0.1", listening.port))
    second = Reception()
    assert second(clock) == 0
    assert second.port is None
    listening.reception.close(clock)
    second._next_try = 0.0
    second(clock)
    assert second.port == listening.port
    second.close(clock)


def test_nothing_listens_when_no_address_is_set(app: Flask, clock: Clock) -> None:
    reception = Reception()
    assert reception(clock) == 0
    assert reception.port is None
    assert worker.run_until_idle(clock) >= 0
