"""What generated inputs found, each once more by name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from signup.consents.models import Consent, ConsentState
from signup.core.db import database, reading, transaction
from signup.core.values import utc_now
from signup.subscriptions import answers
from tests.conftest import CLIENT
from tests.support import log


@pytest.mark.usefixtures("app")
def test_the_words_of_the_answered_question_count_when_another_form_asked_the_same_later(
    sign_up: Callable[..., Any],
) -> None:
    now = utc_now()
    english = sign_up("anna@beispiel.de", "demo-en", at=now - timedelta(minutes=12))
    sign_up("anna@beispiel.de", "demo-de", at=now)
    ident = database().sessions.kw["keys"].open_token("confirm", english.confirm_url.rpartition("/")[2])
    with transaction() as session:
        answers.confirm(session, ident, client=CLIENT, page_seconds=5, now=now + timedelta(minutes=1))
    with reading() as session:
        given = session.scalars(select(Consent).where(Consent.contact_id == english.contact_id)).one()
    assert given.state is ConsentState.GIVEN
    assert given.text.startswith("Yes, ")
    confirmed = [fact for fact in log.facts(english.contact_id) if fact.kind == "subscription.confirmed"]
    assert [fact.fields["consent"] for fact in confirmed] == [given.act_id]
