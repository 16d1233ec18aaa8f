"""The command: bin/bench."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench import attack, clicks, export, mails, newsletter, oracle, scale, seal, signup, table, webhooks
from bench.measuring import POSTGRESQL, SQLITE, Measure, Settings

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
MEASURES: dict[str, tuple[str, Measure]] = {
    "sign-up": ("Sign-up against a Flask hello", signup.run),
    "mails": ("Mails out, sign-ups in", mails.run),
    "scale": ("Ten thousand and a million contacts", scale.run),
    "export": ("Export of a million rows", export.run),
    "dead-endpoint": ("Sign-ups beside a dead endpoint", webhooks.dead_endpoint),
    "clicks": ("Confirm and unsubscribe", clicks.run),
    "newsletter": ("django-newsletter, mail included", newsletter.run),
    "attack": ("A list bomber, and honest people in between", attack.run),
    "oracle": ("What an answer tells about an address", oracle.run),
    "seal": ("Sealing the evidence log", seal.run),
    "webhooks": ("Webhooks out", webhooks.deliveries),
}


def main() -> int:
    chosen = _arguments()
    settings = _settings(chosen)
    # Servers and databases are stopped as after any other error.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    missed = False
    for name in chosen.only or MEASURES:
        title, measure = MEASURES[name]
        started = time.perf_counter()
        print(f"\n{title}", flush=True)
        with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
            here = Settings(**{**vars(settings), "folder": Path(folder)})
            figures = measure(here, stack)
        print("\n".join(table.lines(figures)))
        print(f"{time.perf_counter() - started:.0f} s", flush=True)
        missed = missed or any(figure.verdict == "MISS" for figure in figures)
        if chosen.save:
            table.save(PAGE, name, figures, settings)
    return 1 if missed and chosen.strict else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bin/bench", description="Measures Signup against plain references.")
    parser.add_argument("--only", action="append", choices=[*MEASURES], help="one measure; may be given again")
    parser.add_argument("--quick", action="store_true", help="short and rough: 2 rounds of 2 s, small databases")
    parser.add_argument("--rounds", type=int, help="rounds of each measure (5)")
    parser.add_argument("--seconds", type=float, help="length of one cell (4)")
    parser.add_argument("--rows", type=int, help="contacts of the large database (1000000)")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), help="only one of the two")
    parser.add_argument("--save", action="store_true", help="write the figures into docs/performance.md")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a target is missed")
    return parser.parse_args()


def _settings(chosen: argparse.Namespace) -> Settings:
    kinds = {"sqlite": (SQLITE,), "postgresql": (POSTGRESQL,), None: (SQLITE, POSTGRESQL)}
    return Settings(
        rounds=chosen.rounds or (2 if chosen.quick else 5),
        seconds=chosen.seconds or (2.0 if chosen.quick else 4.0),
        rows=chosen.rows or (20_000 if chosen.quick else 1_000_000),
        few=2_000 if chosen.quick else 10_000,
        cache=Path(os.environ.get("BENCH_CACHE") or ROOT / ".cache" / "bench"),
        folder=Path(),
        databases=kinds[chosen.database],
    )


if __name__ == "__main__":
    sys.exit(main())
