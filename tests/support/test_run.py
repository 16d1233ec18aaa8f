"""bin/run as a newcomer uses it: from any folder, in the foreground, stopped by a signal."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support.ports import free_port
from tests.support.servers import ROOT, Process, clean_environment, http_status
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

# Longer than bin/run gives its children.
STOP_SECONDS = 45


@dataclass
class Run:
    process: Process
    url: str

    def lines(self) -> list[str]:
        """What is meant for people; the log lines between are JSON."""
        return [line for line in self.process.output().splitlines() if not line.startswith("{")]

    def wait_ready(self) -> "Run":
        def ready() -> bool:
            self.process.check_alive()
            return any(line.startswith("api docs ") for line in self.lines())

        wait_for(ready, seconds=90, describe=f"bin/run ({self.lines()})")
        return self

    def descendants(self) -> list[psutil.Process]:
        found: list[psutil.Process] = psutil.Process(self.process.popen.pid).children(recursive=True)
        return found


@contextmanager
def bin_run(folder: Path, *, ignore_sigint: bool = False, **settings: str) -> Iterator[Run]:
    port = settings.setdefault("PORT", str(free_port()))
    environ = clean_environment(SIGNUP_INSTANCE=str(folder / "instance"), **settings)
    log = folder / "run.log"
    folder.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        # `bin/run &` in a script starts with SIGINT ignored.
        prefix = ["sh", "-c", 'trap "" INT; exec "$0"'] if ignore_sigint else []
        popen = subprocess.Popen(
            [*prefix, str(ROOT / "bin" / "run")], cwd=folder, env=environ, stdout=output, stderr=output
        )
    run = Run(Process("bin/run", popen, log), f"http://127.0.0.1:{port}")
    try:
        yield run
    finally:
        if popen.poll() is None:
            run.process.stop(STOP_SECONDS)


# Jobs are leased and done, events are sealed.
BY_WORKER = tuple(f'INSERT INTO "{table}"' for table in ("job", "event", "log_tile"))


def database(folder: Path) -> tuple[int, set[str]]:
    """How often the schema was changed, and each row that the worker does not go on with."""
    with closing(sqlite3.connect(folder / "instance" / "signup.db")) as connection:
        (changes,) = connection.execute("PRAGMA schema_version").fetchone()
        rows = {line for line in connection.iterdump() if not line.startswith(BY_WORKER)}
    return changes, rows


@pytest.fixture(scope="module")
def started_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where bin/run made database, secrets and demo before."""
    folder = tmp_path_factory.mktemp("installed")
    with bin_run(folder) as run:
        run.wait_ready()
        (folder / "first-lines").write_text("\n".join(run.lines()))
    return folder


def test_each_place_is_printed_when_started_first(started_once: Path) -> None:
    lines = (started_once / "first-lines").read_text().splitlines()
    keys = [line.rsplit(" ", 1)[0] for line in lines]
    assert keys == ["form", "form", "mailbox", "console", "api docs", "api key"]
    assert [line.rsplit("/", 1)[1] for line in lines[:2]] == ["demo-de", "demo-en"]


def test_forms_mailbox_and_docs_answer_when_ready(started_once: Path) -> None:
    with bin_run(started_once) as run:
        run.wait_ready()
        urls = [line.rsplit(" ", 1)[1] for line in run.lines() if not line.startswith("console")]
        assert len(urls) == 4
        assert {url: http_status(url, url.removeprefix(run.url)) for url in urls} == dict.fromkeys(urls, 200)


def test_nothing_is_made_again_when_started_again(started_once: Path) -> None:
    first = (started_once / "first-lines").read_text().splitlines()
    changes, rows = database(started_once)
    assert changes > 0
    assert [row for row in rows if row.startswith('INSERT INTO "controller"')]
    stamp = ROOT / ".venv" / ".installed-run"
    installed = stamp.stat().st_mtime_ns
    with bin_run(started_once) as run:
        second = run.wait_ready().lines()
    places = [line.rpartition("/")[2] for line in first if not line.startswith("api key ")]
    # No line tells of an installation, nor of a key.
    assert [line.rpartition("/")[2] for line in second] == places
    assert stamp.stat().st_mtime_ns == installed
    changes_again, rows_again = database(started_once)
    assert changes_again == changes
    assert rows <= rows_again


def test_the_mailbox_is_named_when_another_server_takes_the_mails(started_once: Path) -> None:
    with bin_run(started_once, MAIL_SERVER="127.0.0.1", MAIL_PORT=str(free_port())) as run:
        assert f"mailbox {run.url}/dev/mailbox" in run.wait_ready().lines()
        assert http_status(run.url, "/dev/mailbox") == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_web_and_worker_stop_with_it_when_a_signal_comes(started_once: Path, number: signal.Signals) -> None:
    with bin_run(started_once, ignore_sigint=True) as run:
        run.wait_ready()
        children = run.descendants()
        commands = [" ".join(child.cmdline()) for child in children]
        assert any("gunicorn" in command for command in commands)
        assert any("devserver worker" in command for command in commands)
        run.process.popen.send_signal(number)
        assert run.process.popen.wait(STOP_SECONDS) == 0, run.process.output()
        assert not [child for child in children if child.is_running()]
        assert http_status(run.url, "/healthz") == 0


def test_ctrl_c_reaches_only_the_supervisor_when_running(started_once: Path) -> None:
    with bin_run(started_once) as run:
        run.wait_ready()
        own = os.getpgid(run.process.popen.pid)
        assert own not in {os.getpgid(child.pid) for child in run.descendants()}


@pytest.mark.parametrize("victim", ["gunicorn", "devserver worker"])
def test_all_stop_with_exit_1_when_one_process_dies(started_once: Path, victim: str) -> None:
    with bin_run(started_once) as run:
        run.wait_ready()
        supervisor, children = run.process.popen.pid, run.descendants()
        # gunicorn's own child goes with its master.
        next(c for c in children if victim in " ".join(c.cmdline()) and c.ppid() == supervisor).kill()
        assert run.process.popen.wait(STOP_SECONDS) == 1
        assert "process ended with code -9" in run.process.output()
        wait_for(lambda: not [c for c in children if c.is_running()], describe="the end of the others")


def test_one_clear_line_is_said_when_the_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with bin_run(tmp_path, PORT=str(port)) as run:
            assert run.process.popen.wait(30) == 2
            (line,) = run.lines()
    assert f"port {port}" in line
    assert not (tmp_path / "instance").exists()


def test_the_problem_is_named_when_the_port_is_no_number(tmp_path: Path) -> None:
    with bin_run(tmp_path, PORT="http") as run:
        assert run.process.popen.wait(30) == 2
        assert run.lines() == ["PORT must be a number from 1 to 65535, not 'http'"]


def test_every_missing_setting_is_named_when_run_for_production(tmp_path: Path) -> None:
    with bin_run(tmp_path, SIGNUP_ENV="production") as run:
        assert run.process.popen.wait(30) == 2
        output = run.process.output()
    for name in ("SECRET_KEY", "SIGNUP_PEPPER", "SIGNUP_DATA_KEY", "MAIL_SERVER"):
        assert f"{name} is missing" in output
    assert "Traceback" not in output


def test_one_clear_line_is_said_when_the_database_does_not_answer(tmp_path: Path) -> None:
    with bin_run(tmp_path, DATABASE_URL=f"postgresql://app:hunter2@127.0.0.1:{free_port()}/signup") as run:
        assert run.process.popen.wait(60) == 1
        output = run.process.output()
    assert "The database does not answer: " in output
    assert "Traceback" not in output
    assert "hunter2" not in output


@pytest.mark.parametrize(("word", "code"), [("--help", 0), ("-h", 0), ("serve", 2), ("--port=8001", 2)])
def test_nothing_starts_when_it_is_given_a_word(tmp_path: Path, word: str, code: int) -> None:
    command = [sys.executable, "-m", "signup.devserver", word]
    environment = {**clean_environment(), "SIGNUP_INSTANCE": str(tmp_path / "instance")}
    answer = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (answer.returncode, answer.stdout) == (code, "")
    assert "takes no arguments" in answer.stderr
    assert not (tmp_path / "instance").exists()
