"""Image and compose file hold together: commands, settings, secrets and files that exist."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from flask import Flask

from tests.deploy.known import is_command, is_setting
from tests.support.servers import ROOT

FOLDER = ROOT / "deploy" / "docker"


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


def _instructions(word: str) -> list[str]:
    text = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ")
    return re.findall(rf"^{word} (.+)$", text, re.MULTILINE)


def test_every_command_exists_when_a_container_runs_it(app: Flask, compose: Any) -> None:
    for name in ("migrate", "web", "worker"):
        program, *words = compose["services"][name]["command"]
        assert program == "gunicorn" or is_command(app, words), name


def test_every_setting_is_known_when_a_container_sets_it(compose: Any) -> None:
    names = set(compose["services"]["web"]["environment"])
    for line in _instructions("ENV"):
        names |= {part.partition("=")[0] for part in line.split()} - {"PATH"}
    unknown = {name for name in names if not is_setting(name) and not name.startswith("PYTHON")}
    assert unknown == set()
    assert {"SECRET_KEY_FILE", "SIGNUP_PEPPER_FILE", "SIGNUP_DATA_KEY_FILE", "DATABASE_URL_FILE"} <= names


def test_every_secret_is_a_file_when_a_container_reads_it(compose: Any) -> None:
    assert set(compose["secrets"]) >= {"secret_key", "pepper", "data_key", "database_url"}
    for service in compose["services"].values():
        assert set(service["secrets"]) <= set(compose["secrets"])
        for name, value in service["environment"].items():
            assert name.endswith("_FILE") or not re.search("SECRET|KEY|PEPPER|PASSWORD|DATABASE_URL", name), name
            assert not name.endswith("_FILE") or value.removeprefix("/run/secrets/") in service["secrets"], name


def test_nothing_of_the_program_runs_as_root_or_may_write_when_composed(compose: Any) -> None:
    assert _instructions("USER") == ["signup"]
    for name in ("migrate", "web", "worker"):
        service = compose["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in compose["services"]["web"]["ports"])
    assert "ports" not in compose["services"]["database"]


def test_the_database_is_ready_and_migrated_when_the_program_starts(compose: Any) -> None:
    services = compose["services"]
    assert services["migrate"]["depends_on"]["database"]["condition"] == "service_healthy"
    for name in ("web", "worker"):
        assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert int(services["database"]["image"].partition(":")[2]) >= 15


def test_all_that_is_copied_exists_and_reaches_the_builder_when_built() -> None:
    sources = [line.split()[:-1] for line in _instructions("COPY") if "--from" not in line]
    named = {name for line in sources for name in line}
    allowed = set(re.findall(r"^!(\S+)$", (FOLDER / "Dockerfile.dockerignore").read_text(), re.MULTILINE))
    assert named == allowed
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert any("--require-hashes" in line for line in _instructions("RUN"))


def test_the_program_starts_from_the_files_of_the_image_alone_when_run(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    import shutil
    import subprocess
    import sys

    from tests.support.servers import clean_environment

    folder = tmp_path_factory.mktemp("image")
    for line in _instructions("COPY"):
        if "--from" not in line and "requirements" not in line:
            *names, target = line.split()
            for name in names:
                source, place = ROOT / name, folder / (name if target == "./" else target)
                shutil.copytree(source, place) if source.is_dir() else shutil.copy(source, place)
    environ = clean_environment(SIGNUP_ENV="development", SIGNUP_INSTANCE=str(folder / "instance"))
    for arguments in (["db", "upgrade"], ["check-config"]):
        command = [sys.executable, "-m", "flask", *arguments]
        done = subprocess.run(
            command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
