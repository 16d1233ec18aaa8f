"""A whole form as one file: in, published, and out again, with errors that name the key."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from signup.core.db import reading, transaction
from signup.core.values import utc_now
from signup.forms import actions as forms
from signup.forms.models import Form, FormVersion
from signup.purposes import actions as purposes
from signup.purposes.actions import NewController
from signup.purposes.models import ConsentText, Controller
from tests.support import log

FULL: dict[str, Any] = {
    "slug": "fair",
    "name": "Messe",
    "locale": "de",
    "tone": "informal",
    "title": "Messe 2027",
    "intro": "Bis bald.",
    "email_label": "Adresse",
    "submit_label": "Los",
    "note": "Widerruf jederzeit.",
    "purposes": [{"slug": "fairs", "label": "Messen", "hint": "selten", "text": "Ja, ich möchte von Messen hören."}],
    "allowed_origins": ["https://shop.example.org"],
    "theme": {"accent": "#aa0000"},
    "redirects": {"allowed": ["https://a.example/danke"], "after_confirm": "https://a.example/danke"},
    "welcome": {"subject": "Hallo", "text": "Da bist du ja."},
    "strict": True,
    "fields": [
        {"name": "first_name", "type": "text", "label": "Vorname", "purpose": "Anrede.", "autocomplete": "given-name"},
        {"name": "size", "type": "select", "label": "G", "purpose": "P", "options": [{"value": "s", "label": "S"}]},
    ],
    "attribution": ["utm_source"],
}
OTHER = NewController(
    slug="other",
    name="Other Ltd",
    address="Street 1, Town",
    sender="news@other.example",
    reply_to="hello@other.example",
    imprint_url="https://other.example/imprint",
    privacy_url="https://other.example/privacy",
    accent="#0b5d6b",
)


def run(app: Flask, tmp_path: Path, *words: str, file: Any = None) -> Result:
    args = ["form", *words]
    if file is not None:
        path = tmp_path / "form.json"
        path.write_bytes(file if isinstance(file, bytes) else json.dumps(file).encode())
        args += ["--from", str(path)]
    return app.test_cli_runner().invoke(args=args)


def said(done: Result) -> str:
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    [line] = done.stderr.splitlines()
    return line


def tables() -> list[Any]:
    with reading() as session:
        queries = (select(Form.slug, Form.draft), select(FormVersion.id), select(ConsentText.id))
        return [sorted(map(str, session.execute(query).all())) for query in queries]


def test_a_file_comes_out_as_it_went_in_when_it_was_published(
    app: Flask, client: FlaskClient, demo: SimpleNamespace, tmp_path: Path
) -> None:
    made = run(app, tmp_path, "create", file=FULL)
    assert made.exit_code == 0, made.output
    assert "Messe 2027" in client.get("/f/fair").text
    shown = run(app, tmp_path, "show", "fair", "--as", "json")
    assert json.loads(shown.stdout) == FULL
    before = tables()
    for words in (("set", "fair"), ("publish", "fair")):
        done = run(app, tmp_path, *words, file=json.loads(shown.stdout) if words[0] == "set" else None)
        assert done.exit_code == 0, done.output
    assert json.loads(run(app, tmp_path, "show", "fair", "--as", "json").stdout) == FULL
    after = tables()
    assert after == before, "the same words are no new version, neither of the form nor of a consent text"


def test_no_version_is_made_and_copies_stay_current_when_nothing_changed(app: Flask, tmp_path: Path) -> None:
    assert run(app, tmp_path, "create", file=FULL).exit_code == 0
    before, told = tables(), log.events_in_all()
    done = run(app, tmp_path, "publish", "fair")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("fair version 1 ")
    assert done.stdout.endswith("(it says the same: no new version)\n")
    assert (tables(), log.events_in_all()) == (before, told)
    other = {**FULL, "allowed_origins": ["https://fair.example.org"]}
    assert run(app, tmp_path, "set", "fair", file=other).exit_code == 0
    assert "version 1 " in run(app, tmp_path, "publish", "fair").stdout
    assert json.loads(run(app, tmp_path, "show", "fair", "--as", "json").stdout) == other
    assert run(app, tmp_path, "set", "fair", file={**other, "note": "Anders."}).exit_code == 0
    done = run(app, tmp_path, "publish", "fair")
    assert done.stdout.startswith("fair version 2 ")
    assert "the same" not in done.stdout


def test_a_form_is_found_by_itself_when_there_are_two_controllers(app: Flask, tmp_path: Path) -> None:
    with transaction() as session:
        purposes.create_controller(session, OTHER, now=utc_now())
    assert run(app, tmp_path, "create", "--controller", "other", file=FULL).exit_code == 0
    assert run(app, tmp_path, "set", "fair", file={**FULL, "title": "Neu"}).exit_code == 0
    assert run(app, tmp_path, "publish", "fair").stdout.startswith("fair version 2 ")
    assert json.loads(run(app, tmp_path, "show", "fair", "--as", "json").stdout)["title"] == "Neu"
    assert run(app, tmp_path, "close", "fair").exit_code == 0
    assert "closed" in run(app, tmp_path, "show", "fair").stdout
    assert "no form 'fair'" in said(run(app, tmp_path, "close", "fair", "--controller", "beispiel"))
    assert "no form 'nowhere'" in said(run(app, tmp_path, "close", "nowhere"))


def test_fields_origins_and_the_way_to_confirm_are_told_when_a_form_is_shown(app: Flask, tmp_path: Path) -> None:
    assert run(app, tmp_path, "create", file=FULL).exit_code == 0
    shown = run(app, tmp_path, "show", "fair").stdout.splitlines()
    assert shown[-4:] == [
        "field first_name: Vorname (text)",
        "field size: G (select)",
        "origins https://shop.example.org",
        "confirmed by the typed code only",
    ]
    plain = run(app, tmp_path, "show", "demo-de").stdout.splitlines()
    assert plain[-2:] == ["origins every site", "confirmed by link or code"]


@pytest.mark.req("E1")
def test_what_is_in_force_stays_when_a_draft_is_set(app: Flask, client: FlaskClient, tmp_path: Path) -> None:
    assert run(app, tmp_path, "create", "--draft", file=FULL).exit_code == 0
    assert client.get("/f/fair").status_code == 404
    assert "not published\topen, draft" in run(app, tmp_path, "list").stdout
    assert run(app, tmp_path, "publish", "fair").stdout.startswith("fair version 1 ")
    page = client.get("/f/fair").text
    changed = {**FULL, "title": "Neu", "purposes": [{**FULL["purposes"][0], "text": "Ja, anders."}]}
    assert run(app, tmp_path, "set", "fair", file=changed).exit_code == 0
    assert "Messe 2027" in client.get("/f/fair").text
    assert "version 1\topen, draft" in run(app, tmp_path, "list").stdout
    assert run(app, tmp_path, "publish", "fair").stdout.startswith("fair version 2 ")
    assert "Ja, anders." in client.get("/f/fair").text
    assert "version 2\topen\t" in run(app, tmp_path, "list").stdout
    with reading() as session:
        old = forms.version(session, "fair", 1)
    assert old.purposes[0]["text"] == "Ja, ich möchte von Messen hören."
    assert "Ja, ich möchte von Messen hören." in page


@pytest.mark.parametrize(
    ("key", "file"),
    [
        ("JSON", b"{"),
        ("JSON", b"\xff"),
        ("title", {key: value for key, value in FULL.items() if key != "title"}),
        ("titel", {**FULL, "titel": "x"}),
        ("$.strict", {**FULL, "strict": "yes"}),
        ("$.fields[0]", {**FULL, "fields": [{"name": "a", "type": "text", "label": "A"}]}),
        ("purpose", {**FULL, "fields": [{"name": "a", "type": "text", "label": "A"}]}),
        ("fields[0].purpose", {**FULL, "fields": [{"name": "a", "type": "text", "label": "A", "purpose": ""}]}),
        ("fields[0].name", {**FULL, "fields": [{"name": "email", "type": "text", "label": "A", "purpose": "B"}]}),
        ("redirects.after_signup", {**FULL, "redirects": {"after_signup": "https://a.example/"}}),
        ("theme.accent", {**FULL, "theme": {"accent": "red"}}),
        ("attribution[0]", {**FULL, "attribution": ["gclid"]}),
        ("purposes", {**FULL, "purposes": ["product-news", "product-news"]}),
        ("'nothing'", {**FULL, "purposes": ["nothing"]}),
        ("at least one purpose", {**FULL, "purposes": []}),
        ("slug", {**FULL, "slug": "A b"}),
        ("demo-de", {**FULL, "slug": "demo-de"}),
    ],
)
def test_nothing_is_written_and_the_key_is_named_when_a_file_is_wrong(
    app: Flask, demo: SimpleNamespace, tmp_path: Path, key: str, file: Any
) -> None:
    before = tables()
    assert key in said(run(app, tmp_path, "create", file=file))
    assert tables() == before


@pytest.mark.req("F13")
def test_no_language_stands_in_for_another_when_a_text_is_missing(app: Flask, tmp_path: Path) -> None:
    german = {**FULL, "slug": "only-german"}
    assert run(app, tmp_path, "create", file=german).exit_code == 0
    english = {**FULL, "slug": "english", "locale": "en", "tone": "formal", "purposes": ["fairs"]}
    line = said(run(app, tmp_path, "create", file=english))
    assert "'fairs'" in line
    assert "'en'" in line


@pytest.mark.req("F15")
def test_a_form_is_not_published_when_there_is_no_privacy_notice(
    app: Flask, demo: SimpleNamespace, tmp_path: Path
) -> None:
    with transaction() as session:
        session.execute(update(Controller).where(Controller.id == demo.controller.id).values(privacy_url=""))
    before = tables()
    assert "privacy" in said(run(app, tmp_path, "publish", "demo-de"))
    assert "privacy" in said(run(app, tmp_path, "create", file=FULL))
    assert tables() == before


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "Wir schicken Ihnen eine Mail"),
        (["--tone", "informal"], "Wir schicken dir eine Mail"),
        (["--locale", "en"], "We send you a mail"),
    ],
)
def test_the_usual_note_follows_the_tone_when_a_form_is_made_by_options(
    app: Flask, client: FlaskClient, tmp_path: Path, more: list[str], said: str
) -> None:
    words = ["create", "messe", "--title", "Messe", "--purpose", "fairs", "--text", "fairs=Ja, gern."]
    done = run(app, tmp_path, *words, *more)
    assert done.exit_code == 0, done.output
    assert said in client.get("/f/messe").text


def test_a_form_keeps_its_slug_and_stays_with_its_controller_when_a_file_says_otherwise(
    app: Flask, tmp_path: Path
) -> None:
    assert "slug" in said(run(app, tmp_path, "set", "demo-de", file=FULL))
    assert "no form 'nowhere'" in said(run(app, tmp_path, "set", "nowhere", file={**FULL, "slug": "nowhere"}))
    assert "no form 'nowhere'" in said(run(app, tmp_path, "publish", "nowhere"))
    assert "SLUG" in said(run(app, tmp_path, "create"))
