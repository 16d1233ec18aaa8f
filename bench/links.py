"""Run with a service's settings: one line a request about a person of a filled database, path, tab, body.

The links are those that the product would have mailed; a page's nonce is made as the page would have made it.
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from bench.people import CONFIRMED, FULL_EVERY, PENDING, Filled, Person, Sample, people
from signup.app import create_app
from signup.core.config import Config
from signup.core.db import Session, reading
from signup.core.values import utc_now
from signup.subscriptions import links

# A page that was answered within a second was not read.
READ_FOR = timedelta(seconds=30)


def confirmations(session: Session, filled: Filled, count: int) -> Iterator[tuple[str, str]]:
    """The newest waiting people press the button of their page."""
    shown_at = utc_now() - READ_FOR
    for _, person in newest(filled, PENDING, count):
        token = session.keys.token(links.CONFIRM, person.token)
        yield f"/confirm/{token}", f"nonce={session.keys.page_nonce(links.CONFIRM, person.token, shown_at)}"


def unsubscribes(session: Session, filled: Filled, count: int) -> Iterator[tuple[str, str]]:
    """The mail programs of the newest confirmed people press their button."""
    for sample, person in newest(filled, CONFIRMED, count):
        ident = links.unsubscribe_id(session, person.subscription_id(sample), 1)
        yield f"/unsubscribe/{session.keys.token(links.UNSUBSCRIBE, ident)}", links.ONE_CLICK


def lookups(_session: Session, filled: Filled, count: int) -> Iterator[tuple[str, str]]:
    for _, person in anybody(filled, count):
        yield f"/api/v1/contacts?email={person.email}", ""


def histories(_session: Session, filled: Filled, count: int) -> Iterator[tuple[str, str]]:
    for sample, person in anybody(filled, count):
        yield f"/api/v1/contacts/{person.contact_id(sample)}/evidence", ""


def feeds(_session: Session, filled: Filled, count: int) -> Iterator[tuple[str, str]]:
    """Pages of the feed from anywhere in it: everybody has one number at least."""
    draw = random.Random(7)
    for _ in range(count):
        yield f"/api/v1/events?limit=50&after={draw.randrange(filled.count)}", ""


WHAT = {
    "confirm": confirmations,
    "unsubscribe": unsubscribes,
    "lookup": lookups,
    "evidence": histories,
    "feed": feeds,
}


def newest(filled: Filled, kind: str, count: int) -> Iterator[tuple[Sample, Person]]:
    """The people of this kind who were added for this run alone."""
    crowd = [crowd for crowd in filled.crowds if crowd.kind == kind and crowd.for_one_run][-1]
    if crowd.count < count:
        raise SystemExit(f"only {crowd.count} {kind} people were added for this run, {count} are needed")
    sample = filled.samples[kind]
    for person in people(sample, replace(crowd, count=count)):
        yield sample, person


def anybody(filled: Filled, count: int) -> Iterator[tuple[Sample, Person]]:
    """Settled people drawn at random, always the same ones, among those with all their rows."""
    draw = random.Random(7)
    settled = [crowd for crowd in filled.crowds if not crowd.for_one_run]
    for _ in range(count):
        crowd = draw.choice(settled)
        number = -(-(crowd.first + draw.randrange(crowd.count)) // FULL_EVERY) * FULL_EVERY
        if number >= crowd.first + crowd.count:
            number -= FULL_EVERY
        sample = filled.samples[crowd.kind]
        yield sample, next(people(sample, replace(crowd, first=number, count=1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("state", type=Path)
    parser.add_argument("what", choices=[*WHAT])
    parser.add_argument("count", type=int)
    parser.add_argument("file", type=Path)
    chosen = parser.parse_args()
    filled: Filled = pickle.loads(chosen.state.read_bytes())
    app = create_app(Config.from_env(os.environ))
    with app.app_context(), reading() as session:
        lines = [f"{path}\t{body}\n" for path, body in WHAT[chosen.what](session, filled, chosen.count)]
    chosen.file.write_text("".join(lines))


if __name__ == "__main__":
    main()
