"""The bundle, for programs."""

from __future__ import annotations

from typing import Annotated, Literal

from flask import Response, abort, current_app, request
from msgspec import Meta, Struct

from signup.core.db import Session, transaction
from signup.evidence import bundle, pdf, residue
from signup.evidence.bundle import Bundle
from signup.evidence.residue import Residue
from signup.web import api, errors
from signup.web.api import Call

blueprint = api.blueprint("evidence")


class PdfQuery(Struct, forbid_unknown_fields=True):
    """In which language; by default the contact's."""

    locale: Literal["de", "en"] | None = None


@api.operation(blueprint, "GET", "/contacts/<contact_id>/evidence/bundle.json", scope="evidence.read", writes=True)
def read_bundle(session: Session, call: Call, contact_id: str) -> Bundle:
    """Read everything that proves a person's consents, as one file.

    Anybody can check it with `verifier/signup_verify.py` and the anchors at `/.well-known/signup-evidence.json`, \
without this service. The mail that asked is left out while its question is open, and its links are blanked while \
"that was not me" can still be said. Reading is a fact of its own.
    """
    return bundle.read(session, call.controller_id, contact_id, client=call.client, actor=call.actor, now=call.now)


class Search(Struct):
    items: Annotated[list[Residue], Meta(description="One for each mail of yours that the file is, quotes or carries.")]


@api.operation(blueprint, "POST", "/evidence/search", scope="evidence.read", takes="message/rfc822")
def search_residue(session: Session, call: Call) -> Search:
    """Find the sign-up behind a disputed mail.

    The mail as a file (`.eml`), or forwarded. Its Message-ID and the token in its link lead to time, form version, \
outcome and seal of the sign-up, even when the address is long gone. Searching is a fact of its own.
    """
    if request.get_data() and request.mimetype not in ("message/rfc822", "message/global", "application/octet-stream"):
        abort(errors.problem(415, "unsupported-media-type", "Send the mail as it is, as `message/rfc822`."))
    found = residue.search(
        session, call.controller_id, request.get_data(), client=call.client, actor=call.actor, now=call.now
    )
    return Search(found)


@api.operation(blueprint, "GET", "/contacts/<contact_id>/evidence.pdf", scope="evidence.read", media="application/pdf")
def read_pdf(call: Call, query: PdfQuery, contact_id: str) -> Response:
    """Print everything that proves a person's consents, for people.

    PDF/A-3b with the bundle, the mails, the forms, the proofs and the time stamps attached, byte for byte as the \
bundle has them. It says what is proven and what is not. Reading is a fact of its own.
    """
    with transaction() as session:
        sheet = pdf.sheet_of(
            session, call.controller_id, contact_id, query.locale, client=call.client, actor=call.actor, now=call.now
        )
    answer = current_app.response_class(pdf.of_sheet(sheet), content_type="application/pdf")
    answer.headers["Content-Disposition"] = 'attachment; filename="evidence.pdf"'
    return answer
