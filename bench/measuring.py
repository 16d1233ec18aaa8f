"""What every measure is given and what it gives back."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"


@dataclass(frozen=True)
class Settings:
    """How long and how often to measure.

    Args:
        seconds: length of one cell: one server, driven once.
        rows: contacts of the large database.
        few: contacts of the small one.
        cache: folder that outlives the run.
        folder: folder of this run.
    """

    rounds: int
    seconds: float
    rows: int
    few: int
    cache: Path
    folder: Path
    databases: tuple[str, ...] = (SQLITE, POSTGRESQL)
    connections: int = 16


@dataclass(frozen=True)
class Target:
    """What a figure has to reach."""

    sign: str  # ">=" or "<="
    value: float

    def met(self, value: float) -> bool:
        return value >= self.value if self.sign == ">=" else value <= self.value

    def __str__(self) -> str:
        return f"{self.sign} {self.value:g}"


@dataclass(frozen=True)
class Figure:
    """One line of the table: the median of what the rounds gave.

    Args:
        values: one value a round.
        unit: "x" for a ratio.
    """

    measure: str
    what: str
    values: tuple[float, ...]
    unit: str = "x"
    target: Target | None = None
    aim: Target | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        if not self.target.met(self.median):
            return "MISS"
        return "pass" if self.aim is None or not self.aim.met(self.median) else "pass, aim"


@dataclass
class Samples:
    """Named values, one a round, and the ratios between them."""

    measure: str
    rounds: list[dict[str, float]] = field(default_factory=list)

    def plain(self, name: str, what: str, unit: str) -> Figure:
        return Figure(self.measure, what, tuple(row[name] for row in self.rounds if name in row), unit)

    def ratio(self, name: str, to: str, what: str, target: Target | None = None, aim: Target | None = None) -> Figure:
        """The ratios of each round, so that what slowed a whole round cancels out."""
        pairs = [(row[name], row[to]) for row in self.rounds if name in row and to in row]
        values = tuple(above / below for above, below in pairs if below)
        return Figure(self.measure, what, values or (math.nan,), "x", target, aim)


def at_least(value: float) -> Target:
    return Target(">=", value)


def at_most(value: float) -> Target:
    return Target("<=", value)


Cell = Callable[[], dict[str, float]]


def interleaved(measure: str, cells: Sequence[Cell], rounds: int) -> Samples:
    """Every cell once a round, each round in another order."""
    samples = Samples(measure)
    for number in range(rounds):
        order = list(cells)
        random.Random(number).shuffle(order)
        row: dict[str, float] = {}
        for cell in order:
            row.update(cell())
        samples.rounds.append(row)
    return samples


def percentile(values: Iterable[float], share: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


Measure = Callable[[Settings, ExitStack], list[Figure]]
