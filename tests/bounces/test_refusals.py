"""A mail server that refuses an address at once: the same as a bounce, without a letter."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from signup.core.values import utc_now
from signup.intake.models import InboundReport
from signup.jobs import JobRow
from signup.subscriptions.states import Status
from signup.worker import run_until_idle
from tests.bounces.conftest import subscription, timeline
from tests.bounces.test_effects import ANNA, Person, blocked
from tests.support import log
from tests.support.smtp import ScriptedSmtp


@pytest.fixture
def settings(smtp_server: ScriptedSmtp) -> dict[str, str]:
    return {"MAIL_SERVER": smtp_server.host, "MAIL_PORT": str(smtp_server.port)}


@pytest.mark.req("C13")
def test_a_request_ends_when_the_mail_server_knows_no_such_address(
    demo: SimpleNamespace, sign_up: Person, smtp_server: ScriptedSmtp
) -> None:
    smtp_server.behaviour.refuse_rcpt = {ANNA}
    person = sign_up(ANNA)
    run_until_idle(utc_now)
    assert subscription(person).status is Status.REFUSED
    assert blocked(demo) == "bounced"
    kinds = [fact.kind for fact in timeline(demo, person)]
    assert kinds[-3:] == ["mail.failed", "mail.bounced", "subscription.bounced"]
    assert log.count(JobRow) == 0


@pytest.mark.parametrize("answer", ["554 5.7.1 refused by policy", "550 5.1.8 sender unknown", "554 no thanks"])
def test_nothing_ends_when_the_refusal_says_nothing_of_the_address(
    demo: SimpleNamespace, sign_up: Person, smtp_server: ScriptedSmtp, answer: str
) -> None:
    smtp_server.behaviour.data_reply = answer
    person = sign_up(ANNA)
    run_until_idle(utc_now)
    assert subscription(person).status is Status.REQUESTED
    assert blocked(demo) is None
    assert log.count(InboundReport) == 0
