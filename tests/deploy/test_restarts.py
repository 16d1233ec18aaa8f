"""Reloading the web and stopping the worker loses nothing, as real processes under load."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from signup.worker import WATCH_SECONDS
from tests.deploy.conftest import FORM
from tests.deploy.load import visitors
from tests.support.servers import ROOT, Process, Service, clean_environment, run_flask, running_service, start_process
from tests.support.smtp import ScriptedSmtp
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

SECONDS = 60.0


@pytest.fixture
def database_url(backend: str, request: pytest.FixtureRequest) -> Iterator[str | None]:
    if backend == "sqlite":
        yield None
        return
    server = request.getfixturevalue("postgres_server")
    url = server.create_database()
    yield url.replace("postgresql+psycopg", "postgresql")
    server.drop_database(url)


@pytest.fixture
def service(
    tmp_path: Path, database_url: str | None, smtp_server: ScriptedSmtp, furnish: Callable[[Service], None]
) -> Iterator[Service]:
    # The load is no attack.
    own = {"SIGNUP_TRUSTED_PROXIES": "1", "SIGNUP_FORM_PER_HOUR": "1000000"}
    settings = {**own, "MAIL_SERVER": smtp_server.host, "MAIL_PORT": str(smtp_server.port)}
    with running_service(tmp_path, database_url=database_url, **settings) as running:
        furnish(running)
        yield running


def _children(process: Process) -> set[int]:
    return {child.pid for child in psutil.Process(process.popen.pid).children()}


def _process(service: Service, name: str) -> Process:
    return next(process for process in service.processes if process.name == name)


def _wait_started(process: Process) -> None:
    wait_for(lambda: "worker started" in process.output(), seconds=SECONDS, describe="the worker")


def _recipients(smtp_server: ScriptedSmtp) -> set[str]:
    return {address for mail in smtp_server.received for address in mail.rcpt_tos}


def test_nobody_is_lost_when_the_web_is_reloaded_under_load(service: Service, smtp_server: ScriptedSmtp) -> None:
    web = _process(service, "web")
    with visitors(int(service.environ["PORT"]), FORM) as load:
        load.wait(5)
        for _reload in range(3):
            before = _children(web)
            web.popen.send_signal(signal.SIGHUP)
            wait_for(
                lambda before=before: (now := _children(web)) and not now & before,  # type: ignore[misc]
                seconds=SECONDS,
                describe="new processes alone",
            )
            load.wait(5)
    assert load.lost == [], service.logs()
    assert load.pages["200"] > 10
    wait_for(lambda: set(load.accepted) <= _recipients(smtp_server), seconds=SECONDS, describe="a mail for each")


def _start_at(listener: socket.socket, service: Service) -> Process:
    """gunicorn on a socket that is open already, handed over as systemd does."""
    code = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
        "os.execv(sys.argv[2], sys.argv[2:])"
    )
    log = service.folder / f"activated-{len(service.processes)}.log"
    gunicorn = [sys.executable, "-m", "gunicorn", "wsgi:app"]
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [sys.executable, "-c", code, str(listener.fileno()), *gunicorn],
            cwd=ROOT,
            env=service.environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=[listener.fileno()],
        )
    service.processes.append(Process("web", popen, log))
    return service.processes[-1]


def test_nobody_is_lost_when_the_web_is_restarted_behind_a_systemd_socket(service: Service) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        port = listener.getsockname()[1]
        web = _start_at(listener, service)
        with visitors(port, FORM) as load:
            for _restart in range(2):
                load.wait(5, seconds=SECONDS)
                assert web.stop(40) == 0
                web = _start_at(listener, service)
            load.wait(5, seconds=SECONDS)
    assert load.lost == [], service.logs()


def test_the_mail_under_way_goes_out_once_when_the_worker_is_stopped(
    service: Service, smtp_server: ScriptedSmtp
) -> None:
    running = _process(service, "worker")
    with visitors(int(service.environ["PORT"]), FORM) as load:
        for _restart in range(3):
            _wait_started(running)
            load.wait(5)
            assert running.stop(40) == 0, running.output()
            running = service.start_worker()
    assert load.lost == []
    wait_for(lambda: set(load.accepted) <= _recipients(smtp_server), seconds=SECONDS, describe="a mail for each")
    sent = [mail.rcpt_tos for mail in smtp_server.received]
    assert len(sent) == len(set(sent))


def test_the_worker_tells_a_watchdog_that_it_lives(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(WATCH_SECONDS + 30)
        settings = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "MAIL_SERVER": "127.0.0.1", "MAIL_PORT": "1"}
        with running_service(tmp_path, workers=0, **settings) as service:
            # gunicorn says it too: its unit is of Type=notify as well.
            assert b"READY=1" in systemd.recv(200)
            process = service.start_worker()
            heard = [systemd.recv(200), systemd.recv(200)]
            process.popen.send_signal(signal.SIGTERM)
            heard.append(systemd.recv(200))
            assert heard == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]
            assert process.popen.wait(30) == os.EX_OK


def test_the_worker_starts_and_stops_when_nobody_reads_what_it_tells(tmp_path: Path) -> None:
    """As under `bin/run`, which listens until all is ready and not for the watchdog's word."""
    path = str(tmp_path / "notify")
    kinds = (socket.AF_UNIX, socket.SOCK_DGRAM)
    with socket.socket(*kinds) as deaf, socket.socket(*kinds) as sender:
        deaf.bind(path)
        sender.setblocking(False)
        with pytest.raises(BlockingIOError):
            while sender.sendto(b"WATCHDOG=1", path):
                pass
        settings = {"SIGNUP_ENV": "development", "SIGNUP_INSTANCE": str(tmp_path), "MAIL_SERVER": "127.0.0.1"}
        environ = clean_environment(**settings, MAIL_PORT="1")
        assert run_flask("db", "upgrade", environ=environ).returncode == 0
        command, log = [sys.executable, "-m", "flask", "worker"], tmp_path / "worker.log"
        process = start_process("worker", command, environ={**environ, "NOTIFY_SOCKET": path}, log=log)
        _wait_started(process)
        assert process.stop(30) == os.EX_OK


MORTAL = """
import sys
from signup import wiring, worker

class Dies:
    def __call__(self, clock):
        raise SystemExit

    def close(self, clock):
        raise AssertionError("it is dead")

wiring.TURNS = (*wiring.TURNS, Dies)
worker.WATCH_SECONDS = 0.1
from wsgi import app
with app.app_context():
    try:
        worker.Worker(app).run()
    except worker.ThreadLost:
        sys.exit(77)
"""


def test_the_worker_ends_when_one_of_its_threads_has_died(tmp_path: Path) -> None:
    environ = clean_environment(
        SIGNUP_ENV="development", SIGNUP_INSTANCE=str(tmp_path), MAIL_SERVER="127.0.0.1", MAIL_PORT="1"
    )
    assert run_flask("db", "upgrade", environ=environ).returncode == 0
    process = start_process("worker", [sys.executable, "-c", MORTAL], environ=environ, log=tmp_path / "worker.log")
    assert process.popen.wait(SECONDS) == 77, process.output()
    assert "threads of the worker have died" in process.output()
