"""Each measure runs at its smallest and gives the figures it promises. What they are is not looked at."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench import attack, clicks, export, mails, oracle, scale, seal, signup, table, webhooks
from bench.measuring import POSTGRESQL, SQLITE, Figure, Measure, Samples, Settings, at_least, at_most, percentile

MEASURES: dict[str, tuple[Measure, set[str]]] = {
    "sign-up": (signup.run, {"POST/s / hello's", "CPU a request / hello's", "sign-up p99"}),
    "mails": (mails.run, {"mails out / sign-ups in, together", "mails/s / Flask-Mail's"}),
    "scale": (scale.run, {f"{name}, 40 / 20" for name in scale.OPERATIONS}),
    "export": (export.run, {"memory growth", "CSV over HTTP"}),
    "dead endpoint": (webhooks.dead_endpoint, {"sign-up p99, 20 due to a dead endpoint / without"}),
    "clicks": (clicks.run, {"confirm POST/s / hello's", "unsubscribe POST/s / hello's"}),
    "seal": (seal.run, {"sign-ups/s, sealer on / off", "sealing 40 events", "its growth", "audit of 40 events"}),
    "webhooks": (webhooks.deliveries, {"webhook POST/s / bare http.client loop"}),
}


@pytest.fixture(scope="module")
def cache() -> Iterator[Path]:
    """The filled databases, shared by the measures; PostgreSQL's account could not enter pytest's own folder."""
    with tempfile.TemporaryDirectory(prefix="bench-test") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [SQLITE, pytest.param(POSTGRESQL, marks=pytest.mark.postgres)])
@pytest.mark.parametrize("name", [*MEASURES])
def test_measure_gives_its_figures_when_run_at_its_smallest(name: str, kind: str, cache: Path, tmp_path: Path) -> None:
    measure, promised = MEASURES[name]
    settings = Settings(1, 0.2, rows=40, few=20, cache=cache, folder=tmp_path, databases=(kind,), connections=2)
    with ExitStack() as stack:
        figures = measure(settings, stack)
    found = {figure.what.removeprefix(f"{kind}: "): figure for figure in figures}
    assert promised <= set(found)
    # Within a fifth of a second a figure may be nothing at all, but never missing.
    assert all(math.isfinite(figure.median) for figure in found.values())
    assert "".join(table.lines(figures)).count(kind) >= len(promised)


@pytest.mark.slow
def test_victims_stay_within_caps_and_honest_people_get_in_when_a_small_attack_is_replayed(tmp_path: Path) -> None:
    settings = Settings(1, 0.2, rows=1, few=1, cache=tmp_path, folder=tmp_path, databases=(SQLITE,))
    with ExitStack() as stack:
        figures = attack.run(settings, stack, attack.Plan(posts=300, hall=60, honest=10))
    found = {figure.what.removeprefix(f"{SQLITE}: "): figure for figure in figures}
    assert found["victims above a cap"].verdict == "pass"
    assert found["mails to one victim, most"].median >= 1
    assert found["honest sign-ups served, other networks"].median == 1
    assert found["honest sign-ups served, one hall"].median == 1
    assert found["attacking sign-ups that were taken"].median < 0.5


@pytest.mark.slow
def test_every_class_of_address_gets_one_answer_when_a_few_are_compared(tmp_path: Path) -> None:
    settings = Settings(1, 0.2, rows=1, few=1, cache=tmp_path, folder=tmp_path, databases=(SQLITE,))
    with ExitStack() as stack:
        figures = oracle.run(settings, stack, samples=2)
    found = {figure.what.removeprefix(f"{SQLITE}: "): figure for figure in figures}
    assert found["different answers"].median == 1
    assert {f"answer to a {name} address, median" for name in oracle.CLASSES} | {"medians apart"} <= set(found)


def test_ratio_is_taken_in_each_round_when_the_machine_slows_down() -> None:
    samples = Samples("x", [{"ours": 50, "hello": 100}, {"ours": 5, "hello": 10}, {"ours": 40, "hello": 100}])
    ratio = samples.ratio("ours", "hello", "ours / hello", at_least(0.5))
    assert ratio.values == (0.5, 0.5, 0.4)
    assert (ratio.median, ratio.verdict) == (0.5, "pass")


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.1, "MISS"), (0.2, "pass"), (0.35, "pass, aim")], ids=["below", "target", "aim"]
)
def test_verdict_names_what_was_reached_when_there_is_an_aim(value: float, verdict: str) -> None:
    assert Figure("x", "y", (value,), "x", at_least(0.2), at_least(0.35)).verdict == verdict
    assert Figure("x", "y", (1 / value,), "x", at_most(5), at_most(1 / 0.35)).verdict == verdict


def test_percentile_is_the_nearest_rank_when_values_are_few() -> None:
    assert percentile([5, 1, 4, 2, 3], 0.5) == 3
    assert percentile([5, 1, 4, 2, 3], 0.99) == 5


def test_section_is_replaced_when_figures_are_saved(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("before\n<!-- bench:x -->\nold\n<!-- /bench:x -->\nafter\n")
    settings = Settings(1, 1, rows=1, few=1, cache=tmp_path, folder=tmp_path)
    table.save(page, "x", [Figure("x", "a figure", (1.0,))], settings)
    text = page.read_text()
    assert "a figure" in text
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
