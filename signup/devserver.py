"""`bin/run`: one foreground process that starts web, worker and mail catcher, and stops them together."""

from __future__ import annotations

import http.client
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from signup.mail.catcher import Catcher

ROOT = Path(__file__).resolve().parents[1]
# A webhook exchange may take 20 s, and the worker waits 25 s for what is under way; only then is a child killed.
STOP_SECONDS = 30.0
# A slow machine's first start (compiling every module) takes a few seconds.
READY_SECONDS = 90.0
# Between two looks at a page or process that is not there yet: short beside the 3 s a start may take.
POLL_SECONDS = 0.03
# systemd leaves names that begin with X_ to programs of their own.
PREPARED = b"X_PREPARED="
EXIT_STOPPED, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
USAGE = "bin/run takes no arguments. Settings are environment variables, such as PORT=8001 bin/run; Ctrl-C stops it."


class UsageProblem(Exception):
    """The operator has to change something; the message says what, one problem a line."""


@dataclass
class Child:
    name: str
    process: subprocess.Popen[bytes]


@dataclass(frozen=True)
class Address:
    """Where the web process listens, and how this machine reaches it."""

    host: str
    port: int

    @classmethod
    def from_env(cls) -> Address:
        text = os.environ.get("PORT") or "8000"
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
            raise UsageProblem(f"PORT must be a number from 1 to 65535, not {text!r}")
        return cls(os.environ.get("HOST") or "127.0.0.1", int(text))

    @property
    def reachable_host(self) -> str:
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound

    @property
    def url(self) -> str:
        host = self.reachable_host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def check_free(self) -> None:
        """Nobody else listens there; found out before anything is started."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
            # As gunicorn does: connections that just ended must not count as "in use".
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, self.port))
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else str(error)
                raise UsageProblem(
                    f"Cannot listen on {self.host} port {self.port}: {reason}. "
                    "Stop the program that uses it or choose another: PORT=8001 bin/run"
                ) from None


class Signals:
    """Stop requests and deaths of children wake the one waiting place; nothing is done inside a handler."""

    def __init__(self) -> None:
        self.stop_requested = False
        self._reader, writer = socket.socketpair()
        self._reader.setblocking(False)
        writer.setblocking(False)
        self._writer = writer
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        # Set even where the shell left SIGINT ignored (`bin/run &`), and children start with the default again.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._reader, selectors.EVENT_READ)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stop_requested = True

    def wait(self, seconds: float | None) -> None:
        """Return at the next signal, or after `seconds`."""
        if self._selector.select(seconds):
            self._reader.recv(4096)


class Supervisor:
    """The children, each in a session of its own so that Ctrl-C reaches only this process."""

    def __init__(self, signals: Signals) -> None:
        self.signals = signals
        self.children: list[Child] = []

    def start(self, name: str, *arguments: str, environ: Mapping[str, str] | None = None) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            env=environ,
            start_new_session=True,
        )
        self.children.append(Child(name, process))

    def dead(self) -> Child | None:
        return next((child for child in self.children if child.process.poll() is not None), None)

    def wait_until(self, ready: Callable[[], bool]) -> bool:
        """True as soon as `ready`; False when a stop was asked for, a child died or the time is over."""
        deadline = time.monotonic() + READY_SECONDS
        while not self.signals.stop_requested and self.dead() is None:
            if ready():
                return True
            if time.monotonic() > deadline:
                return False
            self.signals.wait(POLL_SECONDS)
        return False

    def watch(self) -> None:
        """Return when a stop was asked for or a child is dead."""
        while not self.signals.stop_requested and self.dead() is None:
            self.signals.wait(1.0)

    def stop(self) -> None:
        """No child is left: each got the time to finish what it was doing."""
        for child in self.children:
            _signal_group(child, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for child in self.children:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                say(f"{child.name} did not stop within {STOP_SECONDS:.0f} s and is killed")
        for child in self.children:
            # Also reaps what a killed gunicorn may have left in its group.
            _signal_group(child, signal.SIGKILL)
            child.process.wait()


def _signal_group(child: Child, number: signal.Signals) -> None:
    try:
        os.killpg(child.process.pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        # macOS says this of a group whose only member is dead and not yet reaped.
        return


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def tell(line: str) -> None:
    print(line, flush=True)


def in_development() -> bool:
    return os.environ["SIGNUP_ENV"] == "development"


def check_settings() -> None:
    """The children will accept the settings; every wrong one is named before anything starts."""
    from signup.core.config import Config, ConfigError

    try:
        Config.from_env(os.environ)
    except ConfigError as error:
        raise UsageProblem("\n".join(error.problems)) from None


def work() -> None:
    """The worker that brings the database up to date before its first job, and says what it found.

    Importing the application takes most of a start. Doing this here, beside the web process that imports it too,
    keeps the supervisor small and makes a start half as long.
    """
    from sqlalchemy.exc import OperationalError

    from signup import cli
    from signup.app import create_app
    from signup.core import logs
    from signup.core.config import Config
    from signup.core.errors import Busy
    from signup.worker import Worker

    logs.setup()
    app = create_app(Config.from_env(os.environ))
    try:
        prepared = cli.prepare(app)
    except (Busy, OperationalError) as error:
        cause = error.__cause__ or error
        say(f"The database does not answer: {str(getattr(cause, 'orig', cause)).splitlines()[0]}")
        sys.exit(EXIT_FAILED)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(PREPARED + json.dumps(asdict(prepared)).encode(), os.environ["NOTIFY_SOCKET"])
    Worker(app).run()


def use_catcher() -> Catcher:
    """The mail settings of this process and its children name a running catcher."""
    from signup.mail.catcher import Catcher

    instance = Path(os.environ.get("SIGNUP_INSTANCE") or ROOT / "instance").absolute()
    catcher = Catcher(instance / "mailbox")
    catcher.start()
    # Left over from a real server, these would make the worker ask the catcher for TLS or a login.
    for name in ("MAIL_USE_TLS", "MAIL_USE_SSL", "MAIL_USERNAME", "MAIL_PASSWORD"):
        os.environ.pop(name, None)
        os.environ.pop(f"{name}_FILE", None)
    os.environ["MAIL_SERVER"], os.environ["MAIL_PORT"] = catcher.host, str(catcher.port)
    return catcher


class WorkerNotice:
    """Hears what the worker tells by systemd's protocol: what a start found or made, then READY=1."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="signup-")
        path = Path(self._folder.name) / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(path))
        self.environ = {**os.environ, "NOTIFY_SOCKET": str(path)}
        self.prepared: dict[str, Any] = {}
        self._ready = False

    def ready(self) -> bool:
        with suppress(BlockingIOError):
            while not self._ready:
                message = self._socket.recv(65536)
                if message.startswith(PREPARED):
                    self.prepared = json.loads(message.removeprefix(PREPARED))
                self._ready = message == b"READY=1"
        return self._ready

    def close(self) -> None:
        self._socket.close()
        self._folder.cleanup()


def web_answers(address: Address) -> bool:
    """The web process says itself that it can serve: database reached, migrations applied."""
    connection = http.client.HTTPConnection(address.reachable_host, address.port, timeout=5)
    try:
        connection.request("GET", "/readyz", headers={"Host": urlsplit(os.environ["PUBLIC_URL"]).netloc})
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def announce(prepared: Mapping[str, Any]) -> None:
    """One line for each place that a newcomer wants to open next."""
    url = os.environ["PUBLIC_URL"].rstrip("/")
    for slug in prepared["forms"]:
        tell(f"form {url}/f/{slug}")
    # The page is there whichever server takes the mails.
    if in_development():
        tell(f"mailbox {url}/dev/mailbox")
    tell(f"console {url}/console/")
    tell(f"api docs {url}/api/v1/docs")
    if prepared["first_start"] and prepared["api_key"]:
        tell(f"api key {prepared['api_key']}")


def serve(supervisor: Supervisor, address: Address) -> int:
    """Web and worker run until a signal or the death of one of them; returns the exit code."""
    notice = WorkerNotice()
    try:
        supervisor.start("worker", "signup.devserver", "worker", environ=notice.environ)
        supervisor.start("web", "gunicorn", "-c", "gunicorn.conf.py", "--log-level", "warning", "wsgi:app")
        # The web process is asked only once the worker is: before, the database may be older than the program.
        if supervisor.wait_until(lambda: notice.ready() and web_answers(address)):
            announce(notice.prepared)
            supervisor.watch()
        if supervisor.signals.stop_requested:
            return EXIT_STOPPED
        dead = supervisor.dead()
        if dead is None:
            say(f"Not ready after {READY_SECONDS:.0f} s: {address.url}/readyz tells what is missing. Stopping.")
        else:
            say(f"The {dead.name} process ended with code {dead.process.returncode}. Stopping.")
        return EXIT_FAILED
    finally:
        supervisor.stop()
        notice.close()


def run(signals: Signals) -> int:
    """Everything from the checked settings to the last stopped child; returns the exit code."""
    os.environ.setdefault("SIGNUP_ENV", "development")
    address = Address.from_env()
    address.check_free()
    # The port may be the only thing set; links in mails and on pages must carry it.
    os.environ["PUBLIC_URL"] = os.environ.get("PUBLIC_URL") or address.url
    check_settings()
    catcher = None
    if in_development() and not os.environ.get("MAIL_SERVER"):
        catcher = use_catcher()
    try:
        return serve(Supervisor(signals), address)
    finally:
        if catcher is not None:
            catcher.stop()


def main(arguments: Sequence[str]) -> int:
    if arguments:
        # A word that is not understood must not start a service that then stays.
        say(USAGE)
        return EXIT_STOPPED if arguments[0] in ("-h", "--help") else EXIT_USAGE
    os.chdir(ROOT)
    signals = Signals()
    try:
        return run(signals)
    except UsageProblem as problem:
        say(str(problem))
        return EXIT_USAGE


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        work()
    else:
        sys.exit(main(sys.argv[1:]))
