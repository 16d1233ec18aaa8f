"""Reloading the web and stopping the worker loses nothing, as real processes under load."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.deploy.conftest import FORM
from tests.deploy.load import visitors
from tests.support.servers import Process, Service, running_service
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
    settings = {"SIGNUP_TRUSTED_PROXIES": "1", "MAIL_SERVER": smtp_server.host, "MAIL_PORT": str(smtp_server.port)}
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
