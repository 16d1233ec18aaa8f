"""The project stands alone: no file names a place outside it, a tool of its making, or a package registry."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.guards.house import ROOT

# Put together here, so that this file does not trip over itself.
PLACES = (
    "/" + "work/",
    ".." + "/shared",
    "shared" + "/research",
    "shared" + "/design",
    "/tmp/" + "brief",
    "/" + "root/",
)
REGISTRIES = ("pypi" + ".org", "pythonhosted" + ".org", "registry.npmjs" + ".org", "registry.yarnpkg" + ".com")
TOOLS = ("issues" + " show", "index" + "-url=", "extra-index" + "-url", "BEGIN PRIVATE" + " KEY")
FORBIDDEN = re.compile("|".join(re.escape(word) for word in (*PLACES, *REGISTRIES, *TOOLS)), re.IGNORECASE)
# The numbers of requirements belong to the tests that show them and to the page that lists them.
NUMBER = re.compile(r"(?<![\w#.-])[AEFUW]\d{1,2}(?![\w.-])")
NUMBERED = ("signup/", "templates/", "bin/", "migrations/", "docs/", "README.md", "CHANGELOG.md")
UNWORDED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")


def project_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    paths = [ROOT / name.decode() for name in listed.split(b"\0") if name]
    return [path for path in paths if path.is_file()]


def texts() -> list[tuple[str, str]]:
    found = []
    for path in project_files():
        try:
            found.append((path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue
    return found


def strange(text: str) -> list[str]:
    return sorted({match.group() for match in FORBIDDEN.finditer(text)})


def numbers(name: str, text: str) -> list[str]:
    if not name.startswith(NUMBERED) or name == "docs/requirements.md":
        return []
    return NUMBER.findall(text)


def test_no_file_names_a_place_outside_when_read() -> None:
    assert len(texts()) > 150
    assert {name: found for name, text in texts() if (found := strange(text))} == {}


def test_no_requirement_number_is_in_the_program_when_read() -> None:
    assert {name: found for name, text in texts() if (found := numbers(name, text))} == {}


def test_nothing_is_left_for_later_when_read() -> None:
    own = [(name, text) for name, text in texts() if not name.startswith("tests/vendor/")]
    assert {name: found for name, text in own if (found := UNWORDED.findall(text))} == {}


def test_guard_speaks_when_a_sample_is_strange() -> None:
    for word in (*PLACES, *REGISTRIES, *TOOLS):
        assert strange(f"see {word} for more"), word
    assert strange("https://example.org/ and work in /tmp") == []
    assert numbers("signup/a.py", "# E15 says so") == ["E15"]
    assert numbers("tests/a.py", "# E15 says so") == []
    assert numbers("docs/a.md", "SHA-256, UTF-8, E501, #E0E0E0, v1.A2, RFC 8058") == []
    assert UNWORDED.findall("# TO" + "DO: later")
