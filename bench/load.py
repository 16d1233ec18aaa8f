"""Driving one server for some seconds, and what it cost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench import processes
from bench.measuring import percentile
from tests.support.servers import ROOT


class WrongAnswers(Exception):
    """A server refused, failed or said nothing: what was measured is not what was meant."""


# How often two servers take turns within one cell.
TURNS = 10


@dataclass(frozen=True)
class Driven:
    """What one cell gave.

    Args:
        server_cpu: seconds of CPU that the server and its database used.
        load_share: CPU of the load by that of the server; far below 1, or the load was the limit.
    """

    count: int
    seconds: float
    statuses: Mapping[str, int]
    milliseconds: list[float]
    server_cpu: float
    load_share: float

    @property
    def rate(self) -> float:
        return self.count / self.seconds

    def samples(self, name: str) -> dict[str, float]:
        """The cell's values under names that begin with `name`."""
        return {
            f"{name} rate": self.rate,
            f"{name} cpu": self.server_cpu / self.count * 1000,
            f"{name} p50": percentile(self.milliseconds, 0.5),
            f"{name} p95": percentile(self.milliseconds, 0.95),
            f"{name} p99": percentile(self.milliseconds, 0.99),
            f"{name} load": self.load_share,
        }


@dataclass(frozen=True)
class Requests:
    """What is sent: a numbered template, or one request for each line of a file.

    Args:
        count: at most so many; 0 means as many as there is time for. A file has no more than its lines.
        good: the statuses that count as done; any other ends the run.
    """

    template: str
    good: tuple[str, ...]
    first: int = 0
    file: Path | None = None
    count: int = 0


def drive(url: str, requests: Requests, *, seconds: float, connections: int, pids: Iterable[int]) -> Driven:
    """The server at `url` was sent `requests` over so many connections, each waiting for its answer."""
    roots = list(pids)
    before = processes.cpu_seconds(roots)
    answer = _sent([_job(url, requests, seconds, connections)], slices=1)[0]
    cpu = processes.cpu_seconds(roots) - before
    _check(url, requests, answer)
    return Driven(
        count=len(answer["milliseconds"]),
        seconds=answer["seconds"],
        statuses=answer["statuses"],
        milliseconds=answer["milliseconds"],
        server_cpu=cpu,
        load_share=answer["cpu_seconds"] / max(cpu, 0.01),
    )


def in_turns(orders: Sequence[tuple[str, Requests]], *, seconds: float) -> list[list[float]]:
    """Each server was sent its requests one at a time, in many short turns; milliseconds of each."""
    answers = _sent([_job(url, requests, seconds, 1) for url, requests in orders], slices=TURNS)
    for (url, requests), answer in zip(orders, answers, strict=True):
        _check(url, requests, answer)
    return [answer["milliseconds"] for answer in answers]


def _job(url: str, requests: Requests, seconds: float, connections: int) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "host": parts.hostname,
        "port": parts.port,
        "template": requests.template,
        "first": requests.first,
        "count": requests.count,
        "connections": connections,
        "seconds": seconds,
        **({"file": str(requests.file)} if requests.file else {}),
    }


def _sent(jobs: list[dict[str, Any]], slices: int) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.client"],
        input=json.dumps({"jobs": jobs, "slices": slices}),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the load failed:\n{done.stderr}")
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def _check(url: str, requests: Requests, answer: dict[str, Any]) -> None:
    wrong = {status: count for status, count in answer["statuses"].items() if status not in requests.good}
    if wrong or not answer["milliseconds"]:
        asked = requests.template.partition(" HTTP/1.1")[0]
        which = requests.file.name if requests.file else ""
        raise WrongAnswers(f"{url} {asked} {which} answered {answer['statuses']}, expected only {requests.good}")


def get(path: str, *headers: str) -> str:
    """A GET as a template; `%(path)s` stands for the paths of a file."""
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: localhost", *headers)) + "\r\n\r\n"


# A form POST for each line of a file.
EACH_POST = (
    "POST %(path)s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    "Content-Length: %(length)d\r\n\r\n%(body)s"
)


def post(path: str, body: str, *headers: str, numbered: int = 0) -> str:
    """A form POST as a template.

    Args:
        numbered: how many `%(number)s`, each of nine digits, the body has.
    """
    length = len(body) - numbered * (len("%(number)s") - 9)
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        *headers,
        "Content-Type: application/x-www-form-urlencoded",
        f"Content-Length: {length}",
    )
    return "\r\n".join(lines) + "\r\n\r\n" + body
