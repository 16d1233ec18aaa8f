"""Colour and logo of a controller: readable whatever is asked for, and nothing that could do more than be seen."""

from __future__ import annotations

import re
import struct
import zlib
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from signup.core.db import reading, transaction
from signup.core.errors import Invalid
from signup.core.values import utc_now
from signup.purposes import actions as purposes
from signup.purposes import branding, colours
from signup.purposes.colours import DARK_PAPERS, LIGHT_PAPERS, contrast

SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><defs><linearGradient id="a"/></defs>'
    b'<path fill="url(#a)" d="M0 0h9v9z"/></svg>'
)


def png(width: int = 1, height: int = 1) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


@given(st.integers(0, 0xFFFFFF))
def test_text_and_button_are_readable_when_the_colour_is_any(number: int) -> None:
    theme = colours.theme(f"#{number:06x}")
    for palette, papers in ((theme.light, LIGHT_PAPERS), (theme.dark, DARK_PAPERS)):
        assert min(contrast(palette.accent, other) for other in (*papers, palette.on)) >= 4.5
        assert contrast(palette.strong, palette.on) >= 4.5


def test_a_colour_stays_as_it_is_when_it_can_be_read() -> None:
    assert colours.theme("#0b5d6b").light.accent == "#0b5d6b"
    assert colours.theme("#ffcc00").light.accent != "#ffcc00"


def test_the_papers_are_those_of_the_style_sheet_when_compared() -> None:
    from signup.forms.pages import STYLESHEET

    blocks = re.findall(r":root \{(.*?)\}", STYLESHEET.read_text(encoding="utf-8"), re.S)[:2]
    for block, papers in zip(blocks, (LIGHT_PAPERS, DARK_PAPERS), strict=True):
        tokens = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})\b", block))
        assert (tokens["paper"], tokens["card"].replace("#fff", "#ffffff")) == papers


def test_a_page_brings_the_colour_of_its_controller_when_it_has_one(client: FlaskClient, demo: Any) -> None:
    assert "/brand/" not in client.get("/f/demo-de").text
    with transaction() as session:
        purposes.change_controller(session, demo.controller.id, {"accent": "#ffcc00"})
    page = client.get("/f/demo-de").text
    (url,) = re.findall(r'href="(/brand/[^"]+)"', page)
    answer = client.get(url)
    assert (answer.status_code, answer.mimetype) == (200, "text/css")
    assert "immutable" in answer.headers["Cache-Control"]
    assert "--accent: #8a6e00" in answer.text
    for path in ("/brand/red.css", "/brand/FFCC00.css", "/brand/ffcc00", "/brand/" + "0" * 64 + ".svg"):
        assert client.get(path).status_code == 404, path


@pytest.mark.parametrize(("content", "media"), [(SVG, "image/svg+xml"), (png(), "image/png")])
def test_a_logo_is_shown_from_our_own_origin_when_it_was_set(
    client: FlaskClient, demo: Any, content: bytes, media: str
) -> None:
    client.get("/f/demo-de")
    with transaction() as session:
        name = branding.set_logo(session, demo.controller.id, content, now=utc_now())
    assert f'src="/brand/{name}"' in client.get("/f/demo-de").text
    answer = client.get(f"/brand/{name}")
    assert (answer.data, answer.mimetype) == (content, media)
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert "immutable" in answer.headers["Cache-Control"]
    with transaction() as session:
        branding.set_logo(session, demo.controller.id, content, now=utc_now())
        branding.remove_logo(session, demo.controller.id)
    assert "/brand/" not in client.get("/f/demo-de").text
    assert client.get(f"/brand/{name}").status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GIF89a",
        b"\xff\xfe",
        png(4000),
        png()[:20],
        b"<svg/>",
        b"<html xmlns='http://www.w3.org/1999/xhtml'/>",
        SVG + b" " * branding.MAX_BYTES,
        SVG.replace(b"<path", b"<script>alert(1)</script><path"),
        SVG.replace(b"<path", b"<path onload='alert(1)'"),
        SVG.replace(b"<path", b"<style>*{}</style><path"),
        SVG.replace(b"<path", b"<path style='fill:red'"),
        SVG.replace(b"<path", b"<foreignObject/><path"),
        SVG.replace(b"<path", b"<a href='https://x.example'/><path"),
        SVG.replace(b"<path", b"<use href='https://x.example/#a'/><path"),
        SVG.replace(b"url(#a)", b"url(https://x.example)"),
        SVG.replace(b"url(#a)", b"url(#a) URL(//x.example)"),
        b'<!DOCTYPE svg [<!ENTITY a "aaaa">]>' + SVG,
        b"<?xml-stylesheet href='https://x.example/a.css'?>" + SVG,
    ],
)
def test_a_logo_is_refused_when_it_is_more_than_a_picture(app: Flask, demo: Any, content: bytes) -> None:
    with pytest.raises(Invalid), transaction() as session:
        branding.set_logo(session, demo.controller.id, content, now=utc_now())
    with reading() as session:
        assert purposes.get_controller(session, demo.controller.id).logo == ""


def test_a_controller_is_changed_by_command_when_all_is_right(app: Flask, demo: Any, tmp_path: Any) -> None:
    (tmp_path / "logo.svg").write_bytes(SVG)
    run = app.test_cli_runner()
    done = run.invoke(
        args=["controller", "set", "beispiel", "--accent", "#123456", "--logo", str(tmp_path / "logo.svg")]
    )
    assert done.exit_code == 0, done.output
    refused = run.invoke(args=["controller", "set", "beispiel", "--name", "Neu GmbH", "--imprint", "javascript:1"])
    assert (refused.exit_code, refused.stdout) == (2, "")
    with reading() as session:
        view = purposes.find_controller(session, "beispiel")
    assert (view.accent, view.name, view.logo[-4:]) == ("#123456", "Beispiel GmbH", ".svg")
