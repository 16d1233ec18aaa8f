"""The systemd units are well-formed, hardened, and start what there is."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from flask import Flask

from tests.deploy.known import is_command, is_setting
from tests.support.programs import program
from tests.support.servers import ROOT, clean_environment

UNITS = ROOT / "deploy" / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
# systemd rates from 0 (shut in) to 10; what is left is the network, which is what the service is for.
MOST_EXPOSED = 2.0


def _text() -> str:
    return "\n".join(path.read_text() for path in UNITS.rglob("*") if path.is_file())


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units with programs that exist on this machine."""
    folder = tmp_path / "units"
    shutil.copytree(UNITS, folder)
    for path in folder.glob("*.service"):
        path.write_text(path.read_text().replace("/opt/signup", str(ROOT)))
    return folder


def _ask(units: Path, *arguments: str) -> str:
    environ = clean_environment(SYSTEMD_UNIT_PATH=f"{units}:", SYSTEMD_COLORS="0", SYSTEMD_EMOJI="0")
    command = [program("systemd-analyze"), *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + done.stderr


def test_units_are_well_formed_when_systemd_reads_them(units: Path) -> None:
    told = _ask(units, "verify", *(str(path) for path in units.glob("signup-*.*") if path.is_file()))
    assert [line for line in told.splitlines() if "signup" in line] == []


def test_systemd_complains_when_a_unit_has_a_typo(units: Path) -> None:
    unit = units / "signup-web.service"
    unit.write_text(unit.read_text().replace("ExecStart=/", "ExecStrat=/"))
    assert "signup-web.service" in _ask(units, "verify", str(unit))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_shut_in_when_systemd_rates_it(units: Path, name: str) -> None:
    told = _ask(units, "security", "--offline=true", str(units / name))
    rated = re.search(r"exposure level for \S+: ([\d.]+)", told)
    assert rated, told
    assert float(rated[1]) <= MOST_EXPOSED


def test_every_program_exists_when_a_unit_starts_it(app: Flask) -> None:
    started = re.findall(r"^Exec\w+=/opt/signup/\.venv/bin/(\S+) ?(.*)$", _text(), re.MULTILINE)
    assert len(started) >= 6
    for name, arguments in started:
        assert (ROOT / ".venv" / "bin" / name).exists(), name
        assert name != "flask" or is_command(app, arguments.split()), arguments


def test_every_setting_is_known_when_a_unit_sets_it() -> None:
    names = set(re.findall(r"^(?:Environment=)?([A-Z][A-Z_]+)=", _text(), re.MULTILINE))
    assert len(names) >= 10
    assert [name for name in names if not is_setting(name)] == []


def test_every_secret_comes_from_a_credential_when_a_service_starts() -> None:
    text = _text()
    loaded = set(re.findall(r"^LoadCredential=([\w-]+):", text, re.MULTILINE))
    used = dict(re.findall(r"^Environment=(\w+)_FILE=%d/([\w-]+)$", text, re.MULTILINE))
    assert set(used.values()) == loaded
    assert {"SECRET_KEY", "SIGNUP_PEPPER", "SIGNUP_DATA_KEY", "DATABASE_URL"} <= used.keys()
    assert "WatchdogSec" in text
