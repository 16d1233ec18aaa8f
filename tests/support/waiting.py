"""Waiting for what happens in another thread or process: looks often, gives up at a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(what: Callable[[], T | None], *, seconds: float = 10.0, describe: str = "the expected state") -> T:
    """The first truthy answer of `what`; AssertionError when there is none within `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = what()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{describe} did not come within {seconds:g} s; last answer: {answer!r}")
        time.sleep(0.01)
