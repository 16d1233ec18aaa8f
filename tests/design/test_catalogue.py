"""Every English text of the pages has a German one, and the compiled catalogue is the current one."""

from __future__ import annotations

import io
import re

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po

from tests.design.conftest import ROOT, TRANSLATIONS

FOLDER = TRANSLATIONS / "de" / "LC_MESSAGES"


FORMAL = re.compile(r"\b(?:Sie|Ihr|Ihre[mnrs]?|Ihnen)\b")
# Here "Sie" is a thing spoken of, not the reader.
NOT_THE_READER = ("Sie ist ",)


def _german(name: str = "messages") -> Catalog:
    with (FOLDER / f"{name}.po").open("rb") as file:
        return read_po(file, locale="de")


def _words(message: Message) -> str:
    texts = message.string if message.pluralizable else [message.string]
    words = " ".join(texts)
    for other in NOT_THE_READER:
        words = words.replace(other, "")
    return words


@pytest.mark.req("F13")
def test_each_text_that_addresses_the_reader_has_a_du_form_when_the_form_asks_for_it() -> None:
    formal = {str(m.id): m for m in _german() if m.id and FORMAL.search(_words(m))}
    informal = {str(m.id): m for m in _german("informal") if m.id}
    assert len(formal) > 50
    missing = sorted(formal.keys() - informal.keys())
    assert missing == [], "write these in translations/de/LC_MESSAGES/informal.po, then pybabel compile -D informal"
    assert sorted(informal.keys() - {str(m.id) for m in _german() if m.id}) == [], "no page says these any more"
    assert [ident for ident, message in informal.items() if FORMAL.search(_words(message))] == []
    assert [(ident, list(message.check())) for ident, message in informal.items() if list(message.check())] == []


def test_each_text_is_translated_when_extracted_from_templates_and_code() -> None:
    known = {message.id[0] if message.pluralizable else message.id: message for message in _german() if message.id}
    wanted = set()
    for folder, pattern, method in (("templates", "**.html", "jinja2"), ("signup", "**.py", "python")):
        keywords = {"_": None, "gettext": None, "ngettext": (1, 2), "lazy_gettext": None, "_l": None}
        for _file, _line, found, _comments, _context in extract_from_dir(
            str(ROOT / folder), method_map=[(pattern, method)], keywords=keywords
        ):
            wanted.add(found[0] if isinstance(found, tuple) else found)
    assert len(wanted) > 60
    assert sorted(wanted - known.keys()) == []
    for message in known.values():
        texts = message.string if message.pluralizable else [message.string]
        assert all(texts), message.id
        assert not message.fuzzy


def test_placeholders_are_the_same_when_translated() -> None:
    assert [(message.id, errors) for message in _german() for errors in [list(message.check())] if errors] == []


@pytest.mark.parametrize("name", ["messages", "informal"])
def test_compiled_catalogue_is_current_when_compared_with_its_source(name: str) -> None:
    expected = io.BytesIO()
    write_mo(expected, _german(name))
    expected.seek(0)
    with (FOLDER / f"{name}.mo").open("rb") as file:
        compiled = read_mo(file)
    fresh = read_mo(expected)
    assert {str(m.id): m.string for m in compiled if m.id} == {str(m.id): m.string for m in fresh if m.id}
