"""Driving one server for some seconds, and what it cost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench import processes
from bench.measuring import percentile
from tests.support.servers import ROOT


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
        good: the statuses that count as done; any other ends the run.
    """

    template: str
    good: tuple[str, ...]
    first: int = 0
    file: Path | None = None
    count: int = 0


def drive(url: str, requests: Requests, *, seconds: float, connections: int, pids: Iterable[int]) -> Driven:
    """The server at `url` was sent `requests` over so many connections, each waiting for its answer."""
    parts, roots = urlsplit(url), list(pids)
    job = {
        "host": parts.hostname,
        "port": parts.port,
        "template": requests.template,
        "first": requests.first,
        "connections": connections,
        "seconds": seconds,
    }
    if requests.file:
        job |= {"file": str(requests.file), "count": requests.count}
    before = processes.cpu_seconds(roots)
    done = subprocess.run(
        [sys.executable, "-m", "bench.client"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    after = processes.cpu_seconds(roots)
    if done.returncode:
        raise RuntimeError(f"the load on {url} failed:\n{done.stderr}")
    answer = json.loads(done.stdout)
    wrong = {status: count for status, count in answer["statuses"].items() if status not in requests.good}
    if wrong or not answer["milliseconds"]:
        raise RuntimeError(f"{url} answered {answer['statuses']}, expected only {requests.good}")
    return Driven(
        count=len(answer["milliseconds"]),
        seconds=answer["seconds"],
        statuses=answer["statuses"],
        milliseconds=answer["milliseconds"],
        server_cpu=after - before,
        load_share=answer["cpu_seconds"] / max(after - before, 0.01),
    )


def get(path: str) -> str:
    """A GET as a template."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"


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
