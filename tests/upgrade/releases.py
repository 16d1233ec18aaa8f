"""The program of the release before this one, and processes of either release on one database."""

from __future__ import annotations

import lzma
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from tests.support.servers import ROOT, Process, http_status
from tests.support.waiting import wait_for

KEPT = Path(__file__).parent / "previous.tar.xz"
PARTS = ("signup", "templates", "migrations", "wsgi.py", "gunicorn.conf.py")
START_SECONDS = 90.0


def previous(folder: Path) -> Release:
    """The newest tag before this commit; where there is none, the program that is kept beside this file."""
    archive = _tagged() or lzma.decompress(KEPT.read_bytes())
    with tarfile.open(fileobj=BytesIO(archive)) as packed:
        packed.extractall(folder, filter="data")
    return Release("previous", folder)


def _tagged() -> bytes | None:
    described = _git("describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^")
    tag = described.stdout.decode().strip()
    if described.returncode or not tag:
        return None
    archive = _git("archive", "--format=tar", tag, *PARTS)
    return archive.stdout if archive.returncode == 0 else None


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)


@dataclass
class Release:
    """One version of the program; its processes run where its files are."""

    name: str
    folder: Path
    processes: list[Process] = field(default_factory=list)

    def flask(self, *arguments: str, environ: Mapping[str, str]) -> str:
        command = [sys.executable, "-m", "flask", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=environ, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, f"{self.name}: flask {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def start_web(self, port: int, *, environ: Mapping[str, str], log: Path) -> Process:
        command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
        process = self._start("web", command, {**environ, "PORT": str(port)}, log)

        def ready() -> bool:
            process.check_alive()
            return http_status(f"http://127.0.0.1:{port}", "/readyz") == 200

        wait_for(ready, seconds=START_SECONDS, describe=f"{self.name} web")
        return process

    def start_worker(self, *, environ: Mapping[str, str], log: Path) -> Process:
        process = self._start("worker", [sys.executable, "-m", "flask", "worker"], environ, log)
        wait_for(lambda: "worker started" in process.output(), seconds=START_SECONDS, describe=f"{self.name} worker")
        return process

    def _start(self, name: str, command: list[str], environ: Mapping[str, str], log: Path) -> Process:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            popen = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        process = Process(f"{self.name} {name}", popen, log)
        self.processes.append(process)
        return process

    def stop(self) -> None:
        for process in self.processes:
            process.stop(40)
