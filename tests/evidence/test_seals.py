"""What an event's seal costs in a long log, and what it says when keys, names or clocks change."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace

import pytest
from flask import Flask

from signup.core.db import database, transaction
from signup.eventlog import merkle, notes, sealing
from tests.conftest import Clock, SignedUp
from tests.evidence.checking import Judge, World
from tests.evidence.conftest import EMAIL, seal_all
from tests.support.smtp import ScriptedSmtp
from tests.support.tsa import Authority


@pytest.fixture
def backend() -> str:
    """The verifier knows no database."""
    return "sqlite"


@pytest.fixture
def settings(smtp_server: ScriptedSmtp, authority: Authority) -> dict[str, str]:
    server = {"MAIL_SERVER": smtp_server.host, "MAIL_PORT": str(smtp_server.port), "MAIL_TIMEOUT": "5"}
    return {**server, **authority.settings()}


@pytest.fixture
def world(app: Flask, sign_up: Callable[..., SignedUp], clock: Clock) -> World:
    seal_all(clock())
    # Each step of the person takes some minutes.
    clock.forward(minutes=-30)
    return World(sign_up, clock)


def grown(size: int) -> tuple[int, int]:
    """Characters and tiles that the seal of an event in a log of this size takes."""
    tiles: dict[tuple[int, int], bytes] = {}
    tree = merkle.Tree(lambda level, number: tiles.get((level, number), b""), 0)
    tree.append([b"x" * 32] * size)
    tiles.update(tree.changed)
    read: list[tuple[int, int]] = []

    def reading(level: int, number: int) -> bytes:
        read.append((level, number))
        return tiles[level, number]

    tree = merkle.Tree(reading, size)
    note = notes.Signer("log.example/evidence", b"s" * 32).sign(
        notes.Head("log.example/evidence", size, tree.root()).text
    )
    proof = notes.proof_text(size - 99, tree.inclusion(size - 99, size), note)
    consistency = [b64encode(item).decode() for item in tree.consistency(size - 100, size)]
    return len(proof) + len("".join(consistency)), len(read)


def test_seal_is_less_than_twice_as_long_when_the_log_is_a_thousand_times_as_long() -> None:
    (short, few), (long, many) = grown(1000), grown(1_000_000)
    assert long < 2 * short
    # Three levels of tiles instead of two, and at each the last one or two.
    assert many <= 2 * few


def test_proof_holds_when_another_key_took_over_in_between(world: World, judge: Judge, clock: Clock) -> None:
    world.ask()
    seal_all(clock.forward(seconds=5))
    kw = database().sessions.kw
    kw["config"] = replace(kw["config"], evidence_key=b"another seed of thirty-two bytes")
    world.confirm()
    seal_all(clock.forward(seconds=5))
    bundle = judge.bundle(world.person)
    first, last = (bundle["events"][place]["tlog_proof"].rpartition("\n\n")[2] for place in (0, -1))
    assert first.split()[2][:5] != last.split()[2][:5]
    status, text = judge(bundle)
    assert (status, "With that the consent" in text) == (0, True), text


def test_proof_holds_when_the_log_goes_on_under_a_new_name(world: World, judge: Judge, clock: Clock) -> None:
    world.ask()
    seal_all(clock.forward(seconds=5))
    with transaction() as session:
        name = sealing.rename(session, now=clock())
    world.confirm()
    seal_all(clock.forward(seconds=5))
    bundle = judge.bundle(world.person)
    assert f"\n{name}\n" in bundle["events"][-1]["tlog_proof"]
    assert f"\n{name}\n" not in bundle["events"][0]["tlog_proof"]
    status, text = judge(bundle)
    assert status == 0, text


@pytest.mark.req("E40")
def test_answer_says_so_when_an_event_was_entered_long_after_its_time(world: World, judge: Judge, clock: Clock) -> None:
    clock.forward(days=-2)
    world.ask()
    world.confirm()
    seal_all(clock.forward(seconds=5))
    status, text = judge(judge.bundle(world.person))
    assert status == 0, text
    assert "It was entered in the log long after the time that it states." in text


def test_event_is_rejected_when_it_says_to_be_later_than_its_time_stamp(
    world: World, judge: Judge, clock: Clock
) -> None:
    clock.forward(hours=3)
    world.ask()
    seal_all(clock.forward(seconds=5))
    status, text = judge(judge.bundle(world.person))
    assert (status, EMAIL in text) == (1, False)
    assert "after it was sealed" in text
