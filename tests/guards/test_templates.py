"""Guard 8: every template compiles and holds nothing inline; every mail has its parts in every locale."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask import Flask
from jinja2 import Environment, StrictUndefined, TemplateSyntaxError

from signup.core.values import LOCALES
from tests.guards.house import ROOT, modules

TEMPLATES = ROOT / "templates"
MAIL_PARTS = ("subject.txt", "body.txt", "body.html")
# What the content security policy would refuse, so that nobody has to find out in a browser.
INLINE = re.compile(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son[a-z]+=|javascript:", re.IGNORECASE)


def files(folder: Path = TEMPLATES) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def inline(source: str) -> list[str]:
    return INLINE.findall(source)


def missing_parts(folder: Path) -> list[str]:
    """Parts that a mail lacks, in any locale."""
    names = [path for path in folder.iterdir() if path.is_dir()]
    wanted = [path / part / locale for path in names for part in MAIL_PARTS for locale in LOCALES]
    return [str(path.relative_to(folder)) for path in wanted if not path.is_file()]


def test_each_template_compiles_when_loaded(app: Flask) -> None:
    assert len(files()) > 25
    for path in files():
        app.jinja_env.get_template(path.relative_to(TEMPLATES).as_posix())


def test_an_unknown_word_is_an_error_when_rendered(app: Flask) -> None:
    assert app.jinja_env.undefined is StrictUndefined
    assert app.jinja_env.select_autoescape("page.html") if callable(app.jinja_env.autoescape) is False else True


def test_nothing_is_inline_when_a_page_is_read() -> None:
    # Mail clients know no other styles than inline ones.
    pages = [path for path in files() if path.suffix == ".html" and "mail" not in path.relative_to(TEMPLATES).parts]
    assert len(pages) > 15
    assert {str(path): found for path in pages if (found := inline(path.read_text(encoding="utf-8")))} == {}


def test_each_template_is_used_when_searched_for() -> None:
    used = "\n".join(path.path.read_text(encoding="utf-8") for path in modules().values())
    used += "\n".join(path.read_text(encoding="utf-8") for path in files())
    names = [path.relative_to(TEMPLATES).as_posix() for path in files() if path.suffix == ".html"]
    assert [name for name in names if not _is_used(name, used)] == []


def _is_used(name: str, used: str) -> bool:
    """By its full name, or by the part of it that a view or a template puts in."""
    stem = name.rpartition("/")[2].removesuffix(".html")
    return name in used or f'"{stem}"' in used or (stem.startswith("_") and name.rpartition("_")[0] + "_" in used)


def test_each_mail_is_whole_when_listed() -> None:
    assert missing_parts(TEMPLATES / "mail") == []


def test_guard_speaks_when_a_template_is_bad(tmp_path: Path) -> None:
    with pytest.raises(TemplateSyntaxError):
        Environment(autoescape=True).from_string("{% if %}")
    for bad in ('<p style="x">', "<script>x</script>", '<a onclick="x">', "<STYLE>", '<a href="javascript:x">'):
        assert inline(bad), bad
    assert inline('<script type="module" src="/static/x.js"></script>') == []
    (tmp_path / "welcome" / "body.txt").mkdir(parents=True)
    (tmp_path / "welcome" / "body.txt" / "de").touch()
    assert not _is_used("forms/old.html", 'render_template("forms/new.html")')
    assert len(missing_parts(tmp_path)) == len(MAIL_PARTS) * len(LOCALES) - 1
