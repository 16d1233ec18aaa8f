"""Whatever is wrong with a call: one line on standard error, exit 2, nothing on standard output."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import Result
from flask import Flask

from signup import cli
from signup.cli.common import BadInput, plain_errors
from signup.core.errors import Conflict, Invalid
from tests.conftest import Place, environment
from tests.support.servers import clean_environment, run_flask

MODULES = (
    cli.setup,
    cli.keys,
    cli.webhooks,
    cli.transfer,
    cli.operate,
    cli.backup,
    cli.mails,
    cli.bounces,
    cli.abuse,
    cli.senders,
    cli.evidence,
    cli.holds,
)


def below(command: click.Command, *before: str) -> Iterator[tuple[click.Command, list[str]]]:
    """The command and all commands in it, each with the words that call it."""
    words = [*before, str(command.name)]
    yield command, words
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from below(inner, *words)


EVERY = [found for module in MODULES for command in module.COMMANDS for found in below(command)]
CALLS = [words for _, words in EVERY]
GROUPS = [words for command, words in EVERY if isinstance(command, click.Group)]
NEEDY = [
    words
    for command, words in EVERY
    if any(parameter.required and not parameter.is_eager for parameter in command.params)
]


def said(done: Result) -> str:
    """What the one line says."""
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")


@pytest.fixture
def backend() -> str:
    """Nothing here comes as far as the database."""
    return "sqlite"


def test_all_commands_are_tried_when_listed(app: Flask) -> None:
    assert {words[0] for words in CALLS} == set(app.cli.commands) - {"db"}
    assert len(GROUPS) > 3
    assert len(NEEDY) > 3


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_one_line_names_the_option_when_it_is_unknown(app: Flask, words: list[str]) -> None:
    assert "--no-such" in said(app.test_cli_runner().invoke(args=[*words, "--no-such"]))


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_the_usage_is_shown_when_asked_for(app: Flask, words: list[str]) -> None:
    done = app.test_cli_runner().invoke(args=[*words, "--help"])
    assert done.exit_code == 0
    assert done.stdout.startswith("Usage: ")
    assert done.stderr == ""


@pytest.mark.parametrize("words", NEEDY, ids=" ".join)
def test_one_line_names_what_is_missing_when_it_is_not_given(app: Flask, words: list[str]) -> None:
    assert said(app.test_cli_runner().invoke(args=words)).startswith("Missing ")


@pytest.mark.parametrize("words", GROUPS, ids=" ".join)
def test_one_line_names_the_command_when_it_is_unknown(app: Flask, words: list[str]) -> None:
    assert "nonsense" in said(app.test_cli_runner().invoke(args=[*words, "nonsense", "more"]))


@pytest.mark.parametrize("words", GROUPS, ids=" ".join)
def test_one_line_names_the_choice_when_the_command_is_missing(app: Flask, words: list[str]) -> None:
    group = next(command for command, called in EVERY if called == words)
    assert isinstance(group, click.Group)
    line = said(app.test_cli_runner().invoke(args=words))
    assert line == f"Missing command. Choose from {', '.join(sorted(group.commands))}."


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["form", "create", "x", "--title", "X", "--purpose", "p", "--locale", "fr"], "'fr'"),
        (["export", "--format", "xml"], "'xml'"),
        (["webhook", "listen", "--port", "many"], "'many'"),
        (["export", "all"], "(all)"),
        (["api-key", "create", "crm", "second"], "second"),
        (["retention", "run", "--dry-run=yes"], "--dry-run"),
        (["webhook", "create", "https://crm.example.org/", "--type"], "--type"),
        (["webhook", "--", "nonsense"], "nonsense"),
    ],
)
def test_one_line_names_the_value_when_it_does_not_fit(app: Flask, words: list[str], told: str) -> None:
    assert told in said(app.test_cli_runner().invoke(args=words))


@pytest.mark.slow
def test_one_line_is_said_when_flask_knows_no_such_command(place: Place) -> None:
    done = run_flask("nonsense", "more", environ=clean_environment(**environment(place.folder)))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == ["Error: No such command 'nonsense'. See flask --help."]


@pytest.mark.usefixtures("demo")
def test_the_sentence_is_said_once_when_the_url_is_none(app: Flask) -> None:
    line = said(app.test_cli_runner().invoke(args=["webhook", "create", "nope"]))
    # No field's name in front of a second telling.
    assert "url:" not in line
    assert line.count(line.split()[0]) == 1


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (Invalid("Too long.", errors=[{"field": "name", "code": "x", "message": "Too long."}]), "Too long."),
        (
            Invalid("Bad input.", errors=[{"field": "name", "code": "x", "message": "Empty."}]),
            "Bad input. name: Empty.",
        ),
        (Invalid("Bad input."), "Bad input."),
        (Conflict("It is\nthere already."), "It is there already."),
    ],
)
def test_a_detail_is_told_when_it_adds_something(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadInput) as caught, plain_errors():
        raise error
    caught.value.show()
    assert capsys.readouterr().err == f"Error: {line}\n"
