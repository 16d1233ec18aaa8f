"""`flask webhook …`, as processes of their own."""

from __future__ import annotations

import json
import re
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask
from standardwebhooks import Webhook

from signup.core.db import reading
from signup.webhooks import endpoints, rules
from tests.conftest import Place, environment
from tests.support.servers import clean_environment, start_process
from tests.support.waiting import wait_for


@pytest.fixture
def environ(app: Flask, place: Place) -> dict[str, str]:
    return clean_environment(**environment(place.folder, place.url))


def post(url: str, body: bytes, headers: dict[str, str]) -> int:
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@contextmanager
def listening(environ, folder: Path, *arguments: str):
    command = [sys.executable, "-m", "flask", "webhook", "listen", *arguments]
    process = start_process("webhook listen", command, environ=environ, log=folder / "listen.log")

    def url() -> str | None:
        process.check_alive()
        found = re.search(r"^listening (\S+)$", process.output(), re.MULTILINE)
        return found[1] if found else None

    try:
        yield process, wait_for(url, seconds=30, describe="the line 'listening'")
    finally:
        process.stop()


def lines(process) -> list[dict[str, object]]:
    return [json.loads(line) for line in process.output().splitlines() if line.startswith("{")]


def test_the_endpoint_exists_and_its_secret_is_shown_once_when_it_is_made_by_command(app, desk, receiver):
    runner = app.test_cli_runner()
    done = runner.invoke(args=["webhook", "create", receiver.url, "--type", "consent.withdrawn"])
    assert done.exit_code == 0, done.stderr
    shown = dict(line.split(" ") for line in done.stdout.splitlines())
    with reading() as session:
        view = endpoints.get(session, desk.controller_id, shown["id"])
    assert (view.url, view.types) == (receiver.url, ("consent.withdrawn",))
    desk.publish(type_="consent.withdrawn")
    desk.run()
    [request] = receiver.requests
    Webhook(shown["secret"]).verify(request.body, dict(request.headers))
    listed = runner.invoke(args=["webhook", "list"])
    assert shown["id"] in listed.stdout
    assert receiver.url in listed.stdout
    assert "whsec_" not in listed.stdout + listed.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "https://10.0.0.1/"),
        ("create", "not a url"),
        ("create", "https://crm.example.org/", "--type", "no.such"),
        ("create", "https://crm.example.org/", "--controller", "nobody"),
        ("list", "--controller", "nobody"),
        ("listen", "--secret", "hunter2"),
        ("listen", "--port", "70000"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("backend", ["sqlite"])
def test_one_line_and_exit_2_and_no_endpoint_when_input_is_bad(app, desk, arguments):
    done = app.test_cli_runner().invoke(args=["webhook", *arguments])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: ")
    with reading() as session:
        assert endpoints.page(session, desk.controller_id) == []


@pytest.mark.parametrize("backend", ["sqlite"])
@pytest.mark.parametrize("settings", [{"SIGNUP_OUTBOUND_ALLOW": ""}])
def test_listen_says_what_to_set_when_loopback_is_not_allowed(app, desk):
    done = app.test_cli_runner().invoke(args=["webhook", "listen"])
    assert done.exit_code == 2
    assert "SIGNUP_OUTBOUND_ALLOW=127.0.0.1" in done.stderr
    with reading() as session:
        assert endpoints.page(session, desk.controller_id) == []


@pytest.mark.slow
def test_deliveries_are_printed_and_the_endpoint_goes_when_listen_makes_its_own(environ, desk, tmp_path):
    with listening(environ, tmp_path) as (process, url):
        with reading() as session:
            [made] = endpoints.page(session, desk.controller_id)
        assert made.url == url
        ident = desk.publish({"name": "Zoë \x9b2J\u2028"})
        desk.run()
        shown = wait_for(lambda: lines(process), describe="a printed delivery")
        [fields] = shown
        assert list(fields) == ["id", "type", "verified", "data"]
        assert fields == {
            "id": ident,
            "type": "subscription.confirmed",
            "verified": True,
            "data": {"name": "Zoë \x9b2J\u2028"},
        }
        assert process.output().isascii()
        assert desk.only().attempts[0].status == 204
        assert process.stop() == 0
    with reading() as session:
        assert endpoints.page(session, desk.controller_id) == []


@pytest.mark.parametrize("backend", ["sqlite"])
@pytest.mark.req("W6")
@pytest.mark.slow
def test_listen_answers_401_and_prints_nothing_when_it_does_not_verify(environ, desk, receiver, tmp_path):
    endpoint = desk.endpoint(receiver.url)
    desk.publish()
    desk.run()
    [good] = receiver.requests
    headers = {name: value for name, value in good.headers.items() if name.startswith("webhook-")}
    other = rules.sign(rules.new_secret(), headers["webhook-id"], clock_of(headers), good.body)
    old = rules.sign(endpoint.secret, headers["webhook-id"], clock_of(headers, -600), good.body)
    bad = [
        {},
        {**headers, "webhook-signature": "v1,????"},
        {**headers, "webhook-signature": "v1"},
        {**headers, "webhook-timestamp": "soon"},
        other,
        old,
    ]
    with listening(environ, tmp_path, "--secret", endpoint.secret) as (process, url):
        assert [post(url, good.body, item) for item in bad] == [401] * len(bad)
        assert post(url, b"\xff\xfe", headers) == 401
        assert post(url, good.body + b" ", headers) == 401
        assert lines(process) == []
        assert post(url, good.body, headers) == 204
        assert [item["id"] for item in lines(process)] == [headers["webhook-id"]]
        assert process.stop() == 0
    with reading() as session:
        assert [item.id for item in endpoints.page(session, desk.controller_id)] == [endpoint.id]


def clock_of(headers: dict[str, str], seconds: int = 0):
    return datetime.fromtimestamp(int(headers["webhook-timestamp"]) + seconds, UTC)
