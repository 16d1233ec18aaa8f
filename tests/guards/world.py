"""A controller with everything in it, a stranger beside it, and every call that the program can be asked."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Row, select
from werkzeug.test import TestResponse

import signup.models  # noqa: F401 - the metadata is whole only with all of them
from signup.core.db import Base, reading
from signup.forms import embedding
from signup.web.api import OPERATIONS, Operation

Snapshot = dict[str, list[tuple[Any, ...]]]

# One value for each field that some call requires. A new required field gets its line here.
SAMPLES: dict[str, Any] = {
    "email": "neu@kunde.example",
    "origin": {"type": "fair", "detail": "Hannover, day 2"},
    "legal_basis": "gdpr-6-1-a",
    "locale": "de",
    "campaign": "spring-2027",
    "sender": "mailer",
    "channel": "email",
    "url": "http://127.0.0.1:47999/",
}
# What else a body must say to be carried out, by the name of its type.
FITTING: dict[str, dict[str, Any]] = {
    "ContactChange": {"locale": "de"},
    "NewContact": {"legal_basis": "gdpr-6-1-b"},
    "NewSubscription": {"form": "demo-de"},
}


@dataclass
class World:
    """What there is to see and to break: `owner` has it all, `stranger` is another controller."""

    owner: str  # API keys
    stranger: str
    email: str
    waiting_email: str
    tokens: dict[str, str]  # live, by purpose
    ids: set[str] = field(default_factory=set)
    slugs: set[str] = field(default_factory=set)
    words: set[str] = field(default_factory=set)  # what nobody else may read


def snapshot(*, without: frozenset[str] = frozenset()) -> Snapshot:
    """Every row of every table."""
    with reading() as session:
        return {
            name: sorted((tuple(row) for row in session.execute(select(table))), key=repr)
            for name, table in Base.metadata.tables.items()
            if name not in without
        }


def rows(table: str, **equal: Any) -> list[Row[Any]]:
    found = Base.metadata.tables[table]
    query = select(found).where(*(found.c[name] == value for name, value in equal.items()))
    with reading() as session:
        return list(session.execute(query))


def changed(before: Snapshot, after: Snapshot) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def lost(before: Snapshot, after: Snapshot) -> set[str]:
    """Tables in which a row that was there is gone or different."""
    return {name for name in before if set(map(repr, before[name])) - set(map(repr, after[name]))}


def sample_body(kind: type[msgspec.Struct]) -> dict[str, Any]:
    required = {item.encode_name for item in msgspec.structs.fields(kind) if item.required}
    return {**{name: SAMPLES[name] for name in required}, **FITTING.get(kind.__name__, {})}


def filled(path: str, values: list[str]) -> Iterator[str]:
    """The path with its parameters filled by every combination of `values`."""
    names = re.findall(r"<(?:\w+:)?(\w+)>", path)
    for combination in itertools.product(values, repeat=len(names)):
        made = path
        for name, value in zip(names, combination, strict=True):
            made = re.sub(rf"<(?:\w+:)?{name}>", value, made)
        yield made


def call(client: FlaskClient, operation: Operation, path: str, key: str) -> TestResponse:
    """One call of the API, with a body that passes every check of form."""
    body = sample_body(operation.body) if operation.body is not None else None
    headers = {"Authorization": f"Bearer {key}"}
    return client.open(path, method=operation.method, json=body, headers=headers)


def read(client: FlaskClient, path: str, key: str, method: str = "GET") -> tuple[int, str]:
    """Status and text of one page, read to its end."""
    with client.open(path, method=method, headers={"Authorization": f"Bearer {key}"}) as answer:
        return answer.status_code, answer.get_data().decode("utf-8", "replace")


def operations(*methods: str) -> list[Operation]:
    assert len(OPERATIONS) > 15
    return [operation for operation in OPERATIONS if not methods or operation.method in methods]


def readable_paths(app: Flask, world: World) -> Iterator[tuple[str, str]]:
    """Endpoint and path of each route that answers GET, with each thing it could be about."""
    for rule in app.url_map.iter_rules():
        if rule.methods and "GET" in rule.methods:
            for path in _paths(rule.rule, world):
                yield rule.endpoint, path


def _paths(rule: str, world: World) -> Iterator[str]:
    purpose = rule.strip("/").partition("/")[0]
    if "<token>" in rule:
        yield rule.replace("<token>", world.tokens[purpose])
    elif "<path:filename>" in rule:
        yield rule.replace("<path:filename>", "css/public.css")
    elif "<version>" in rule:
        yield rule.replace("<version>", embedding.NEWEST)
    elif rule.count("<") > 1:
        yield rule.replace("<slug>", "demo-de").replace("<handle>", world.tokens["pending"])
    elif rule.startswith("/brand/"):
        yield rule.replace("<colour>", "0b5d6b").replace("<name>", world.tokens["logo"])
    elif rule.startswith("/preferences"):
        yield f"{rule}?of=beispiel"
    elif rule.startswith("/f/"):
        yield rule.replace("<slug>", "demo-de")
    else:
        yield from filled(rule, sorted(world.ids | world.slugs))
