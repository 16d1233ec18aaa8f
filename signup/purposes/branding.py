"""A controller's logo: checked when it is handed in, kept for good, served from our own origin."""

from __future__ import annotations

import hashlib
import struct
from datetime import datetime
from xml.etree import ElementTree

from sqlalchemy import select

from signup.core.db import Session
from signup.core.errors import Invalid, NotFound
from signup.purposes.models import Controller, Logo

# A logo is loaded by every page; a form should weigh less than a photograph.
MAX_BYTES = 100_000
MAX_PIXELS = 2000
# The bytes of each mail are kept as evidence, its logo with them.
MAX_MAIL_BYTES = 20_000
MEDIA = {"svg": "image/svg+xml", "png": "image/png"}
_PNG = b"\x89PNG\r\n\x1a\n"
_SVG = "{http://www.w3.org/2000/svg}"
# Shapes and colours. What runs, loads or embeds is not among them.
_SHAPES = (
    *("svg", "g", "path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "text", "tspan", "title"),
    *("desc", "defs", "symbol", "use", "clipPath", "mask", "linearGradient", "radialGradient", "stop"),
)


def set_logo(session: Session, controller_id: str, content: bytes, *, now: datetime) -> str:
    """The controller's pages show this picture from now on.

    Returns:
        The name under which it is served: the hash of its content.

    Raises:
        Invalid: it is no PNG or SVG, too large, or could do more than be looked at.
    """
    name = _kept(session, controller_id, content, now=now)
    session.change(Controller, {"id": controller_id}, {"logo": name})
    return name


def _kept(session: Session, controller_id: str, content: bytes, *, now: datetime) -> str:
    """The picture's name, under which it is kept for good."""
    kind = _kind(content)
    name = f"{hashlib.sha256(controller_id.encode() + content).hexdigest()}.{kind}"
    if session.get(Logo, name) is None:
        session.add(Logo(name=name, controller_id=controller_id, content=content, created_at=now))
        session.flush()
    return name


def remove_logo(session: Session, controller_id: str) -> None:
    """The controller's pages show no picture; published versions of forms still find theirs."""
    session.change(Controller, {"id": controller_id}, {"logo": ""})


def set_mail_logo(session: Session, controller_id: str, content: bytes, *, now: datetime) -> str:
    """The controller's mails carry this picture from now on.

    Returns:
        Its name: the hash of its content.

    Raises:
        Invalid: it is no PNG, which all mail programs show, or too large to be in every mail.
    """
    if not content.startswith(_PNG) or len(content) > MAX_MAIL_BYTES:
        raise Invalid(f"The logo in mails must be a PNG of at most {MAX_MAIL_BYTES} bytes.")
    name = _kept(session, controller_id, content, now=now)
    session.change(Controller, {"id": controller_id}, {"mail_logo": name})
    return name


def remove_mail_logo(session: Session, controller_id: str) -> None:
    """The controller's mails carry no picture."""
    session.change(Controller, {"id": controller_id}, {"mail_logo": ""})


def logo(session: Session, name: str) -> tuple[bytes, str]:
    """The picture of this name and its media type.

    Raises:
        NotFound: there is none.
    """
    content = session.scalar(select(Logo.content).where(Logo.name == name))
    if content is None:
        raise NotFound("There is no such picture.")
    return content, MEDIA[name.rpartition(".")[2]]


def _kind(content: bytes) -> str:
    if len(content) > MAX_BYTES:
        raise Invalid(f"The logo must have at most {MAX_BYTES} bytes.")
    if content.startswith(_PNG):
        _check_png(content)
        return "png"
    _check_svg(content)
    return "svg"


def _check_png(content: bytes) -> None:
    if content[12:16] != b"IHDR" or len(content) < 33:
        raise Invalid("The logo is a broken PNG.")
    width, height = struct.unpack(">II", content[16:24])
    if not 0 < width <= MAX_PIXELS or not 0 < height <= MAX_PIXELS:
        raise Invalid(f"The logo must be at most {MAX_PIXELS} pixels wide and high.")


def _check_svg(content: bytes) -> None:
    """Raise unless the picture is nothing but shapes: an SVG can run scripts and load what it likes."""
    refused = Invalid("The logo must be a PNG, or an SVG of shapes only: no scripts, styles, pictures or links.")
    try:
        text = content.decode()
        if "<!" in text.replace("<!--", "") or "<?" in text.removeprefix("<?xml "):
            raise refused
        # No document type means no entities, the one danger of parsing.
        root = ElementTree.fromstring(text)  # noqa: S314
    except (UnicodeDecodeError, ElementTree.ParseError):
        raise refused from None
    if root.tag != f"{_SVG}svg":
        raise refused
    for element in root.iter():
        if not str(element.tag).startswith(_SVG) or element.tag.removeprefix(_SVG) not in _SHAPES:
            raise refused
        if not all(_harmless(name, value) for name, value in element.attrib.items()):
            raise refused


def _harmless(name: str, value: str) -> bool:
    plain = name.rpartition("}")[2].lower()
    if plain.startswith("on") or plain in ("style", "src"):
        return False
    if plain == "href":
        return value.startswith("#")
    return "url(" not in value.lower().replace("url(#", "")
