"""Ways to put one form on other sites: snippets, what they need, and the script that stands behind them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlencode

import segno
from flask import render_template
from flask_babel import force_locale
from flask_babel import gettext as _
from werkzeug.datastructures import MultiDict

from signup.core.errors import NotFound
from signup.forms.rules import FormView, SignupForm
from signup.purposes import colours
from signup.purposes.tone import spoken

FOLDER = Path(__file__).parents[1] / "static" / "embed"
# What was given out under a version stays as it is: pages hold its hash. Tests hold the recorded hashes.
VERSIONS = tuple(
    sorted((path.name for path in FOLDER.iterdir() if path.is_dir()), key=lambda v: [*map(int, v.split("."))])
)
NEWEST = VERSIONS[-1]

Kind = Literal["html", "script", "element", "popup", "iframe", "hosted", "qr", "wordpress"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_SCRIPTED = ("script-src", "connect-src", "form-action")
# The directives a page with a strict policy must add for each kind, all with our origin.
_NEEDS: Mapping[Kind, tuple[str, ...]] = {
    "html": ("form-action", "style-src"),
    "script": _SCRIPTED,
    "element": _SCRIPTED,
    "popup": _SCRIPTED,
    "iframe": ("frame-src", "script-src"),
    "hosted": (),
    "qr": ("img-src",),
    "wordpress": _SCRIPTED,
}
# The colour that embed.css has by itself.
OWN_ACCENT = "#0b5d6b"
# Printed this large at 300 dots an inch, a code is 3 cm wide: read at arm's length.
QR_SCALE = 10
# The quiet zone that the standard asks for, in modules.
QR_BORDER = 4


@dataclass(frozen=True)
class Asset:
    """One file of the embed script, whole and compressed."""

    content: bytes
    gzipped: bytes
    integrity: str
    mimetype: str


@dataclass(frozen=True)
class Embed:
    """One way to embed a form: HTML to paste, and what the page's own security policy must allow."""

    kind: Kind
    html: str
    csp: tuple[str, ...]


@lru_cache(maxsize=16)
def asset(version: str, name: str) -> Asset:
    """The script or stylesheet of a version as it is served, the script with its stylesheet inside.

    Raises:
        NotFound: there is no such version.
    """
    if version not in VERSIONS or name not in ("embed.js", "embed.css"):
        raise NotFound("There is no such file.")
    css = _tight((FOLDER / version / "embed.css").read_text(encoding="utf-8"))
    text = css
    if name == "embed.js":
        script = _lines((FOLDER / version / "embed.js").read_text(encoding="utf-8"))
        text = script.replace('"@embed.css"', json.dumps(css, ensure_ascii=False))
    content = text.encode()
    digest = base64.b64encode(hashlib.sha384(content).digest()).decode()
    kind = "text/javascript" if name == "embed.js" else "text/css"
    return Asset(content, gzip.compress(content, 9, mtime=0), f"sha384-{digest}", kind)


def _lines(text: str) -> str:
    """Without indentation and lines of comment: a sixth fewer bytes, and still readable."""
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))


def _tight(css: str) -> str:
    """Without the spaces that only people need."""
    return re.sub(r"([:,]) ", r"\1", re.sub(r"\s*([{};]| [>~] )\s*", lambda found: found[1].strip(), css)).strip()


def channel(major: int) -> Asset:
    """The newest script that is compatible with the first one of this major version."""
    return asset([version for version in VERSIONS if version.startswith(f"{major}.")][-1], "embed.js")


def embed(view: FormView, kind: Kind, public_url: str, *, source: str = "") -> Embed:
    """The snippet for one kind, in the form's language, with the directives the host page needs."""
    with force_locale(view.locale), spoken(informal=view.informal):
        html = render_template(
            f"forms/embed/{kind}.html",
            home=public_url,
            link=link(view.slug, public_url, source),
            version=NEWEST,
            script=asset(NEWEST, "embed.js"),
            css=asset(NEWEST, "embed.css"),
            query="?" + urlencode({"src": source}) if source else "",
            attributes=_scripted(view) if kind == "script" else {},
            **_part(view, f"{public_url}/f/{view.slug}"),
        )
    return Embed(kind, _plain(html), tuple(f"{directive} {public_url}" for directive in _NEEDS[kind]))


def _plain(html: str) -> str:
    """Without the blank lines that templates leave: a snippet is read by people."""
    return "".join(f"{line}\n" for line in html.splitlines() if line.strip())


def link(slug: str, public_url: str, source: str = "") -> str:
    """The hosted page; `source` says which poster, hall or card led there."""
    return f"{public_url}/f/{slug}" + (f"?{urlencode({'src': source})}" if source else "")


def fragment(view: FormView, public_url: str) -> str:
    """The form as an element puts it into another page."""
    template = "forms/embed/_closed.html" if view.closed else "forms/embed/_form.html"
    return render_template(template, attributes=_scripted(view), **_part(view, f"{public_url}/f/{view.slug}"))


def frame(view: FormView) -> str:
    """The page inside the frame; without a script its form leads out of the frame."""
    attributes = {**_scripted(view), "target": "_top"}
    part = _part(view, f"/f/{view.slug}", heading="h1")
    return render_template("forms/frame.html", view=view, version=NEWEST, attributes=attributes, **part)


def frame_policy(view: FormView) -> str:
    """The frame's own policy: the sites that may embed the form are the ones that may frame it."""
    ancestors = " ".join(view.allowed_origins) or "*"
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        f"form-action 'self'; base-uri 'none'; frame-ancestors 'self' {ancestors}"
    )


def _scripted(view: FormView) -> dict[str, str]:
    """What the script reads of a form: its name, which names of the page's address it may take along, and what to do
    after the sign-up where that is not the usual."""
    taken = " ".join(view.definition["attribution"])
    steps = [_("Open the mail with the code."), _("Open the page in it, on any device."), _("Type the code there.")]
    more = {"data-doi-take": taken, "data-doi-steps": "|".join(steps) if view.strict else ""}
    return {"data-doi": view.slug, **{name: value for name, value in more.items() if value}}


def _accent(view: FormView) -> str | None:
    """Button, pressed button and its text, on light; on dark. None: the colours that the stylesheet has."""
    if view.accent == OWN_ACCENT:
        return None
    found = colours.theme(view.accent)
    return ";".join(" ".join((palette.accent, palette.strong, palette.on)) for palette in (found.light, found.dark))


def _part(view: FormView, action: str, heading: str = "h2") -> dict[str, object]:
    """What `forms/embed/_form.html` reads."""
    return {
        "definition": view.definition,
        "form": SignupForm(formdata=MultiDict()),
        "action": action,
        "hidden": {"form_version": str(view.version)},
        "errors": [],
        "locale": view.locale,
        "slug": view.slug,
        "heading": heading,
        "tint": _accent(view),
    }


def qr(url: str, kind: str) -> bytes:
    """A QR code of `url` as an SVG or PNG file; a quarter of it may be dirty or torn."""
    code = segno.make(url, error="q", micro=False)
    out = io.BytesIO()
    if kind == "svg":
        code.save(out, kind="svg", scale=QR_SCALE, border=QR_BORDER, light="#fff", title=url, xmldecl=False)
    else:
        code.save(out, kind="png", scale=QR_SCALE, border=QR_BORDER)
    return out.getvalue()
