"""What other sites load: sizes, hashes, caching, snippets, QR codes, counts. Without a browser."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update

from signup.core.db import reading, transaction
from signup.core.values import utc_now
from signup.forms import actions as forms
from signup.forms import embedding, views
from signup.forms.models import Form

ORIGIN = "http://127.0.0.1:8000"
STATIC = Path(embedding.__file__).parents[1] / "static"
KILOBYTE = 1024
# Pages out there hold these hashes. A released version never changes: what differs gets a folder of its own.
RECORDED = {
    "1.0.0": "sha384-oHnG5hSLmUuQ5a7O8hkJRxvEy2FKggletG7EFho2+iBafLP/lkO4XeubVFypZBa+",
}


def packed(content: bytes) -> int:
    return len(gzip.compress(content, 9))


@pytest.mark.req("F2")
def test_script_with_styles_and_solver_fits_eight_kilobytes_when_packed(client: FlaskClient) -> None:
    script = client.get(f"/embed/{embedding.NEWEST}/embed.js", headers={"Accept-Encoding": "gzip"}).data
    page = client.get("/f/demo-de").data
    sizes = {
        "embed script, its styles and solver": (len(script), 8 * KILOBYTE),
        "styles of plain HTML forms": (packed(embedding.asset(embedding.NEWEST, "embed.css").content), 3 * KILOBYTE),
        "styles of public pages": (packed((STATIC / "css" / "public.css").read_bytes()), 6 * KILOBYTE),
        "hosted page": (packed(page), 4 * KILOBYTE),
        "form in another page": (packed(client.get("/f/demo-de/fragment").data), 2 * KILOBYTE),
    }
    table = "\n".join(f"{name:<40}{size:>6} of {most} bytes" for name, (size, most) in sizes.items())
    print(table)  # noqa: T201 - the table is for whoever runs the test with -s
    assert all(size <= most for size, most in sizes.values()), table


def test_a_released_script_never_changes_when_compared_with_its_record() -> None:
    assert {version: embedding.asset(version, "embed.js").integrity for version in embedding.VERSIONS} == RECORDED


@pytest.mark.req("F6")
def test_pinned_script_is_kept_for_a_year_and_channel_for_an_hour_when_loaded(client: FlaskClient) -> None:
    pinned = client.get("/embed/1.0.0/embed.js")
    assert pinned.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert pinned.headers["Access-Control-Allow-Origin"] == "*"
    assert pinned.mimetype == "text/javascript"
    channel = client.get("/embed/v1.js", headers={"Accept-Encoding": "gzip"})
    assert channel.headers["Cache-Control"] == "public, max-age=3600"
    assert channel.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(channel.data) == pinned.data
    assert "Set-Cookie" not in channel.headers
    again = client.get("/embed/v1.js", headers={"If-None-Match": channel.headers["ETag"]})
    assert again.status_code == 304
    for unknown in ("/embed/0.9.0/embed.js", "/embed/..%2f1.0.0/embed.js", "/embed/v2.js"):
        assert client.get(unknown).status_code == 404


@pytest.mark.req("F6")
def test_snippet_names_the_hash_of_what_is_served_when_printed(app: Flask, client: FlaskClient) -> None:
    with reading() as session:
        view = forms.in_force(session, "demo-de")
    html = embedding.embed(view, "html", ORIGIN).html + embedding.embed(view, "script", ORIGIN).html
    found = re.findall(rf'"{ORIGIN}(/embed/[^"]+)" integrity="sha384-([^"]+)" crossorigin="anonymous"', html)
    assert len(found) == 2
    for path, integrity in found:
        assert base64.b64encode(hashlib.sha384(client.get(path).data).digest()).decode() == integrity


@pytest.mark.req("F5")
@pytest.mark.parametrize(
    ("kind", "directives"),
    [
        ("html", "form-action O; style-src O"),
        ("script", "script-src O; connect-src O; form-action O"),
        ("element", "script-src O; connect-src O; form-action O"),
        ("popup", "script-src O; connect-src O; form-action O"),
        ("iframe", "frame-src O; script-src O"),
        ("hosted", "nothing to add"),
        ("qr", "img-src O"),
        ("wordpress", "script-src O; connect-src O; form-action O"),
    ],
)
def test_command_and_api_print_snippet_and_policy_when_asked(
    app: Flask, client: FlaskClient, demo: Any, kind: str, directives: str
) -> None:
    told = directives.replace("O", ORIGIN)
    printed = app.test_cli_runner().invoke(args=["form", "embed", "demo-en", "--as", kind])
    assert printed.exit_code == 0
    first, _, snippet = printed.output.partition("\n")
    assert first == f"<!-- Content-Security-Policy of the page: {told} -->"
    headers = {"Authorization": f"Bearer {demo.api_key}"}
    answer = client.get(f"/api/v1/forms/demo-en/embed?as={kind}", headers=headers)
    csp = [] if directives == "nothing to add" else told.split("; ")
    assert answer.get_json() == {"as": kind, "html": snippet, "csp": csp}
    assert "style=" not in snippet
    assert "checked" not in snippet


def test_unknown_kind_is_refused_when_asked(app: Flask, client: FlaskClient, demo: Any) -> None:
    refused = app.test_cli_runner().invoke(args=["form", "embed", "demo-en", "--as", "flash"])
    assert refused.exit_code == 2
    answer = client.get("/api/v1/forms/demo-en/embed?as=flash", headers={"Authorization": f"Bearer {demo.api_key}"})
    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["field"] == "as"


def test_a_form_with_words_of_html_stays_text_when_embedded(app: Flask) -> None:
    with reading() as session:
        view = forms.in_force(session, "demo-de")
    view.definition["title"] = '"><script src=x></script>'  # type: ignore[index]
    for kind in embedding.KINDS:
        made = embedding.embed(view, kind, ORIGIN, source="a&b<c>").html
        assert "<script src=x" not in made
        assert "a&b" not in made


@pytest.mark.req("F22")
def test_only_listed_sites_may_frame_the_form_when_there_is_a_list(app: Flask, client: FlaskClient) -> None:
    open_to_all = client.get("/f/demo-de/frame")
    assert open_to_all.headers["Content-Security-Policy"].endswith("frame-ancestors 'self' *")
    assert "X-Frame-Options" not in open_to_all.headers
    assert client.get("/f/demo-de").headers["X-Frame-Options"] == "DENY"
    with transaction() as session:
        origins = ["https://shop.example.org", "https://*.example.com"]
        session.execute(update(Form).where(Form.slug == "demo-de").values(allowed_origins=origins))
    listed = client.get("/f/demo-de/frame")
    wanted = "frame-ancestors 'self' https://shop.example.org https://*.example.com"
    assert listed.headers["Content-Security-Policy"].endswith(wanted)
    assert '<html lang="de"' in listed.text
    assert "<title>Neues aus der Werkstatt" in listed.text


@pytest.mark.req("A1")
def test_closed_form_says_so_in_every_embed_when_loaded(app: Flask, client: FlaskClient) -> None:
    with transaction() as session:
        session.execute(update(Form).where(Form.slug == "demo-de").values(closed=True))
    for path in ("/f/demo-de/fragment", "/f/demo-de/frame"):
        answer = client.get(path)
        assert answer.status_code == 410
        assert "geschlossen" in answer.text
        assert "<form" not in answer.text


@pytest.mark.req("F13")
def test_a_form_that_says_du_says_it_in_every_snippet_when_printed(app: Flask) -> None:
    with reading() as session:
        view = forms.in_force(session, "demo-de")
    assert "Was möchten Sie bekommen?" in embedding.embed(view, "html", ORIGIN).html
    view.definition["tone"] = "informal"  # type: ignore[index]
    assert "Was möchtest du bekommen?" in embedding.embed(view, "html", ORIGIN).html


@pytest.mark.req("F24")
def test_code_holds_the_link_with_its_source_when_made(app: Flask, client: FlaskClient) -> None:
    import segno

    url = embedding.link("demo-de", ORIGIN, "messe-2026")
    assert url == f"{ORIGIN}/f/demo-de?src=messe-2026"
    drawn = client.get("/f/demo-de/qr.png?src=messe-2026")
    assert drawn.mimetype == "image/png"
    expected = io.BytesIO()
    segno.make(url, error="q", micro=False).save(expected, kind="png", scale=10, border=4)
    assert drawn.data == expected.getvalue()
    vector = client.get("/f/demo-de/qr.svg?src=messe-2026")
    assert vector.mimetype == "image/svg+xml"
    assert url in vector.text
    assert client.get(url.removeprefix(ORIGIN)).status_code == 200
    for bad in ("a b", "<x>", "x" * 201):
        assert client.get("/f/demo-de/qr.svg", query_string={"src": bad}).status_code == 404


@pytest.mark.req("F20")
def test_views_are_counted_by_the_hour_and_of_nobody_when_seen(app: Flask, client: FlaskClient, demo: Any) -> None:
    before = utc_now() - timedelta(hours=1)
    for _ in range(3):
        answer = client.post("/f/demo-de/view")
        assert answer.status_code == 204
        assert "Set-Cookie" not in answer.headers
    client.post("/f/demo-en/view")
    with reading() as session:
        ids = {slug: forms.in_force(session, slug).id for slug in ("demo-de", "demo-en")}
    # One more brings the rest along, half a minute later.
    views.note(demo.controller.id, ids["demo-en"], now=utc_now() + views.HELD)
    with reading() as session:
        seen = {slug: views.total(session, demo.controller.id, ids[slug], since=before) for slug in ids}
        assert views.total(session, "ctl_other", ids["demo-de"], since=before) == 0
    assert seen == {"demo-de": 3, "demo-en": 2}
    assert client.post("/f/nothing/view").status_code == 404
    headers = {"Authorization": f"Bearer {demo.api_key}"}
    told = client.get("/api/v1/forms/demo-de/views?days=1", headers=headers).get_json()
    assert told["views"] == 3
    assert client.get("/api/v1/forms/demo-de/views?days=0", headers=headers).status_code == 422
