"""What is installed to run: known versions where it matters, and no licence that would bind who runs it."""

from __future__ import annotations

import re
from importlib import metadata

import pytest

from tests.guards.house import ROOT

# Earlier ones take a time stamp whose token brings its own root along.
SAFE_TIME_STAMPS = (1, 0, 9)
# The library licence (LGPL) of a driver binds nobody who only uses it.
_GPL = re.compile(r"(?<!L)\bA?GPL|(?<!Lesser )General Public License", re.IGNORECASE)


def pinned() -> dict[str, str]:
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==([^\s;\\]+)", text, re.MULTILINE))


def licences(name: str) -> list[str]:
    """What a package says of its licence; not the text, which may quote another one."""
    about = metadata.metadata(name)
    told = [about.get("License-Expression"), (about.get("License") or "").partition("\n")[0]]
    told += [item for item in about.get_all("Classifier") or () if item.startswith("License ::")]
    return [item for item in told if item]


def bound_by(told: list[str]) -> list[str]:
    return [item for item in told if _GPL.search(item)]


@pytest.mark.req("E52")
def test_time_stamps_are_checked_by_a_version_that_no_root_in_a_token_fools() -> None:
    version = pinned()["rfc3161-client"]
    assert tuple(int(part) for part in version.split(".")[:3]) >= SAFE_TIME_STAMPS
    line = next(line for line in (ROOT / "requirements.in").read_text().splitlines() if line.startswith("rfc3161"))
    assert line == "rfc3161-client>=1.0.9"
    assert metadata.version("rfc3161-client") == version


@pytest.mark.req("E52")
def test_no_package_to_run_is_under_the_gpl() -> None:
    found, seen = {}, 0
    for name in pinned():
        try:
            told = licences(name)
        except metadata.PackageNotFoundError:
            # Of another system.
            continue
        seen += 1
        if bad := bound_by(told):
            found[name] = bad
    assert seen > 30
    assert found == {}


@pytest.mark.parametrize(
    ("told", "bound"),
    [
        ("GPL-3.0-or-later", True),
        ("AGPL-3.0-only", True),
        ("License :: OSI Approved :: GNU General Public License v3 (GPLv3)", True),
        ("LGPL-3.0-only", False),
        ("License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)", False),
        ("MIT", False),
    ],
)
def test_guard_tells_the_gpl_from_the_lgpl(told: str, bound: bool) -> None:
    assert bool(bound_by([told])) is bound
