"""The evidence on paper: PDF/A-3b, with everything attached that proves what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import typst

from signup.core.db import Session, assert_no_transaction
from signup.core.values import LOCALES, Actor, ClientInfo
from signup.evidence import anchors, bundle, paper
from signup.evidence.paper import Sheet
from signup.evidence.words import FOLDER, LATIN, Words
from signup.purposes import actions as purposes

TEMPLATE = "proof.typ"
STANDARD = "a-3b"


def sheet_of(
    session: Session,
    controller_id: str,
    contact_id: str,
    locale: str | None,
    *,
    client: ClientInfo | None,
    actor: Actor,
    now: datetime,
) -> Sheet:
    """All that the document of a person is made of, and the fact that somebody read it.

    Args:
        locale: of the document; None for the person's own.

    Raises:
        NotFound: this controller holds no such contact.
    """
    read = bundle.read(session, controller_id, contact_id, client=client, actor=actor, now=now)
    controller = purposes.get_controller(session, controller_id)
    spoken = locale or read.record["notice"]["language"]
    config = session.config
    words = Words(spoken if spoken in LOCALES else LOCALES[0], controller.timezone)
    return Sheet(read, anchors.published(session, now=now), config.evidence.tsa, config.public_url, words)


def of_sheet(sheet: Sheet) -> bytes:
    """The document. The same sheet makes the same bytes.

    Setting it takes a while, so nobody may hold a transaction meanwhile. Data goes to the typesetter as a file of
    its own and never as source; no font of the machine and no network is used.

    Rule: ISO 19005-3, so that it can be read in decades; GDPR 7(1), printable at any time.
    """
    assert_no_transaction()
    try:
        return _set(sheet)
    except typst.TypstError:
        # A letter that no font has a shape for in this place. Latin always has; the rest is spelled by number.
        return _set(replace(sheet, words=replace(sheet.words, alphabet=LATIN)))


def _set(sheet: Sheet) -> bytes:
    data, files = paper.of_sheet(sheet)
    binary = {name: list(content) for name, content in files.items() if not _is_text(content)}
    made_at = datetime.fromisoformat(sheet.bundle.made_at)
    sources: dict[str, Any] = {
        "main.typ": (FOLDER / TEMPLATE).read_bytes(),
        # The typesetter takes files of text only; time stamps go in as numbers.
        "data.json": json.dumps({**data, "binary": binary}, ensure_ascii=False).encode(),
        **{f"files/{name}": content for name, content in files.items() if name not in binary},
    }
    # It takes a dictionary of files, which its type stubs do not tell.
    made: bytes = typst.compile(  # type: ignore[call-overload]
        sources, format="pdf", pdf_standards=STANDARD, ignore_system_fonts=True, timestamp=int(made_at.timestamp())
    )
    return made


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
