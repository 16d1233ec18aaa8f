import threading

import pytest

from tests.support import needs
from tests.support.waiting import wait_for


def test_the_answer_is_returned_when_it_comes_in_time() -> None:
    answers: list[str] = []
    timer = threading.Timer(0.05, answers.append, ["late"])
    timer.start()
    assert wait_for(lambda: answers[0] if answers else None) == "late"
    timer.join()


def test_waiting_fails_when_the_answer_never_comes() -> None:
    with pytest.raises(AssertionError, match="a sign did not come within"):
        wait_for(lambda: 0, seconds=0.05, describe="a sign")


def test_a_missing_part_skips_when_on_a_developers_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no browser"):
        needs.missing("no browser")


def test_a_missing_part_fails_when_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no browser"):
        needs.missing("no browser")
