"""nginx and Caddy with the files of deploy/, moved from their places on a server to a folder and free ports."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from tests.support.certificates import ServerCertificate, make_certificate
from tests.support.ports import free_port
from tests.support.programs import program
from tests.support.servers import ROOT, Process, clean_environment, start_process
from tests.support.waiting import wait_for

HOST = "signup.example.org"
NAMES = ("nginx", "caddy")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str


@dataclass
class Proxy:
    """A running proxy in front of a port."""

    name: str
    port: int
    plain_port: int
    folder: Path
    certificate: ServerCertificate
    process: Process

    def request(
        self,
        method: str,
        path: str,
        form: Mapping[str, str] | bytes | None = None,
        *,
        source: str = "127.0.0.1",
        **headers: str,
    ) -> Answer:
        """One request over TLS; names of headers are written with underscores."""
        context = ssl.create_default_context(cafile=self.certificate.trust_file)
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=20, source_address=(source, 0))
        connection = http.client.HTTPConnection(HOST, timeout=20)
        connection.sock = context.wrap_socket(plain, server_hostname=HOST)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            if isinstance(form, Mapping):
                sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
            body = form if isinstance(form, bytes) or form is None else urlencode(form).encode()
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.headers), answer.read().decode("utf-8", "replace"))
        finally:
            connection.close()

    def logs(self) -> str:
        """Everything that the proxy wrote down anywhere."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.suffix == ".log"]
        return "\n".join(path.read_text(errors="replace") for path in files)


def moved(text: str, places: Mapping[str, str]) -> str:
    """`text` with other places; each of them must be in it, or the test would try something else than we ship."""
    for old, new in places.items():
        assert old in text, f"{old} is not in the file"
        text = text.replace(old, new)
    return text


def _nginx(folder: Path, upstream: int, port: int, plain: int, certificate: ServerCertificate) -> list[str]:
    places = {
        "server 127.0.0.1:8000": f"server 127.0.0.1:{upstream}",
        "    listen [::]:80;\n": "",
        "    listen [::]:443 ssl;\n": "",
        "listen 80;": f"listen 127.0.0.1:{plain};",
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "/etc/ssl/signup/fullchain.pem": str(certificate.certificate_file),
        "/etc/ssl/signup/privkey.pem": str(certificate.key_file),
        "/var/log/nginx": str(folder),
    }
    (folder / "signup.conf").write_text(moved((ROOT / "deploy/nginx/signup.conf").read_text(), places))
    temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    lines = [
        "user root;" if os.geteuid() == 0 else "",
        f"pid {folder}/nginx.pid;",
        "daemon off;",
        "events {}",
        "http {",
        *(f"{name}_temp_path {folder}/{name};" for name in temporary),
        f"include {folder}/signup.conf;",
        "}",
    ]
    (folder / "nginx.conf").write_text("\n".join(lines))
    return [program("nginx"), "-p", str(folder), "-e", str(folder / "start.log"), "-c", str(folder / "nginx.conf")]


def _caddy(folder: Path, upstream: int, port: int, plain: int, certificate: ServerCertificate) -> list[str]:
    files = f"{certificate.certificate_file} {certificate.key_file}"
    places = {
        "reverse_proxy 127.0.0.1:8000": f"reverse_proxy 127.0.0.1:{upstream}",
        "\n{\n": f"\n{{\n\tadmin off\n\tskip_install_trust\n\thttp_port {plain}\n\thttps_port {port}\n",
        f"\n{HOST} {{": f"\n{HOST} {{\n\tbind 127.0.0.1\n\ttls {files}",
        "/var/log/caddy": str(folder),
    }
    path = folder / "Caddyfile"
    path.write_text(moved((ROOT / "deploy/caddy/Caddyfile").read_text(), places))
    return [program("caddy"), "run", "--config", str(path), "--adapter", "caddyfile"]


_COMMANDS = {"nginx": _nginx, "caddy": _caddy}


@contextmanager
def running_proxy(name: str, folder: Path, upstream: int) -> Iterator[Proxy]:
    """The proxy `name` in front of the loopback port `upstream`, for as long as the block runs."""
    folder.mkdir(parents=True, exist_ok=True)
    port, plain = free_port(), free_port()
    certificate = make_certificate(folder / "tls", names=(HOST,))
    command = _COMMANDS[name](folder, upstream, port, plain, certificate)
    environ = clean_environment(XDG_DATA_HOME=str(folder), XDG_CONFIG_HOME=str(folder), HOME=str(folder))
    process = start_process(name, command, environ=environ, log=folder / "output.log")
    proxy = Proxy(name, port, plain, folder, certificate, process)

    def answers() -> bool:
        process.check_alive()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    try:
        wait_for(answers, seconds=20, describe=name)
        yield proxy
    finally:
        process.stop()
