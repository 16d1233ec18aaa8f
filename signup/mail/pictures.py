"""The one picture that a mail may carry: the controller's logo, inside the mail, so that nothing is loaded."""

from __future__ import annotations

import struct
from base64 import encodebytes
from dataclasses import dataclass

from sqlalchemy import bindparam, select

from signup.core.db import Prepared, Session, database
from signup.purposes.actions import ControllerView
from signup.purposes.models import Logo

# As tall as two lines of the name beside it; pictures have twice the pixels, for sharp screens.
MAX_HEIGHT = 48
MAX_WIDTH = 280
PIXELS_PER_POINT = 2


@dataclass(frozen=True)
class Picture:
    """A picture as a mail holds it.

    Args:
        cid: its Content-ID, without brackets.
        width: on the screen, in CSS pixels.
        content: Base64 in lines.
    """

    cid: str
    width: int
    height: int
    content: str


def of(session: Session, controller: ControllerView) -> Picture | None:
    """What the controller's mails carry; None unless it was switched on, and then nobody asks for it."""
    if not controller.mail_logo:
        return None
    # What is named by its content never changes, so each process reads it once.
    memory, known = database().memory, ("mail logo", controller.mail_logo)
    found: Picture | None = memory.get(known)
    if found is None:
        ((content,),) = session.rows(_BY_NAME, {"name": controller.mail_logo}, keep_queue=True)
        found = memory[known] = made(controller.mail_logo, content, controller.sender.rpartition("@")[2])
    return found


_BY_NAME = Prepared(select(Logo.content).where(Logo.name == bindparam("name")))


def made(name: str, content: bytes, domain: str) -> Picture:
    """The picture of a PNG.

    Rule: RFC 2392 2, a Content-ID is unique in the world; RFC 2045 6.8, lines of 76 characters.
    """
    width, height = struct.unpack(">II", content[16:24])
    scale = min(1 / PIXELS_PER_POINT, MAX_HEIGHT / height, MAX_WIDTH / width)
    lines = encodebytes(content).decode("ascii").replace("\n", "\r\n")
    shown = max(1, round(width * scale)), max(1, round(height * scale))
    return Picture(f"{name[:24]}@{domain}", *shown, lines)
