"""The development mailbox: what the built-in mail server received."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from flask import Blueprint, Response, abort, jsonify, make_response, render_template, request

from signup.core.db import reading
from signup.core.values import rfc3339
from signup.mail import held
from signup.web.request import config, wants_json

blueprint = Blueprint("mailbox", __name__)

IDENT = re.compile(r"[0-9A-Za-z.T-]{10,60}")
SHOWN = 200
# A mail's own styles may show inside its frame; nothing else, and no script.
MAIL_CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox allow-popups"


@dataclass(frozen=True)
class Item:
    id: str
    to: str
    subject: str
    received_at: datetime
    url: str


def _folder() -> Path:
    return config().instance / "mailbox"


def _items() -> Iterator[Item]:
    paths = sorted(_folder().glob("*.eml"), reverse=True) if _folder().is_dir() else []
    for path in paths[:SHOWN]:
        facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        message = _parsed(path.read_bytes())
        yield Item(
            path.stem,
            ", ".join(facts["rcpt_tos"]),
            str(message["Subject"] or ""),
            datetime.fromisoformat(facts["received_at"]),
            f"/dev/mailbox/{path.stem}",
        )


def _parsed(raw: bytes) -> EmailMessage:
    message = message_from_bytes(raw, policy=policy.default)
    assert isinstance(message, EmailMessage)  # noqa: S101 - policy.default makes no other
    return message


def _read(ident: str) -> bytes:
    path = _folder() / f"{ident}.eml"
    if not IDENT.fullmatch(ident) or not path.is_file():
        abort(404)
    return path.read_bytes()


@blueprint.get("/dev/mailbox")
def show() -> Response:
    items = list(_items())
    with reading() as session:
        kept = held.newest(session)
    if wants_json(request):
        return jsonify(
            {
                "items": [{**asdict(item), "received_at": rfc3339(item.received_at)} for item in items],
                "held": [{**asdict(item), "at": rfc3339(item.at)} for item in kept],
            }
        )
    return make_response(render_template("dev/mailbox.html", items=items, held=kept, controller=None))


@blueprint.get("/dev/mailbox/<ident>")
def show_mail(ident: str) -> Response:
    if ident.endswith(".eml"):
        raw = _read(ident.removesuffix(".eml"))
        return make_response(raw, 200, {"Content-Type": "message/rfc822"})
    message = _parsed(_read(ident))
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    page = render_template(
        "dev/mail.html",
        subject=str(message["Subject"] or ""),
        mailbox_url="/dev/mailbox",
        headers=[(name, str(value)) for name, value in message.items()],
        text=text.get_content() if text else "",
        html_url=f"/dev/mailbox/{ident}/html" if html else None,
        raw_url=f"/dev/mailbox/{ident}.eml",
        controller=None,
    )
    return make_response(page)


@blueprint.get("/dev/mailbox/<ident>/html")
def show_html(ident: str) -> Response:
    html = _parsed(_read(ident)).get_body(("html",))
    if html is None:
        abort(404)
    headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": MAIL_CSP}
    return make_response(html.get_content(), 200, headers)
