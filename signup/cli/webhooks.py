"""Commands on webhooks: making and listing endpoints, and a listener that shows what arrives."""

from __future__ import annotations

import json
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import click
from flask import current_app
from standardwebhooks import Webhook, WebhookVerificationError

from signup.cli.common import BadInput, PlainGroup, controller_named, plain_errors
from signup.core.addresses import Allowance, OutboundRefused, check_url
from signup.core.config import Config
from signup.core.db import reading, transaction
from signup.core.values import OPERATOR, rfc3339, utc_now
from signup.webhooks import endpoints, rules

# Far more than a payload is long; a stray upload must not fill the memory.
MAX_BODY_BYTES = 1_048_576
# A sender that stalls gives its thread back.
READ_SECONDS = 30

webhook = PlainGroup("webhook", help="Webhook endpoints, and a listener to try them with.")


@webhook.command("create")
@click.argument("url")
@click.option("--controller", "owner", help="Slug of the controller.")
@click.option(
    "--type", "types", multiple=True, help="Type of event to send; repeat for more. Default: all but requests."
)
def create_endpoint(url: str, owner: str | None, types: tuple[str, ...]) -> None:
    """Send events to URL from now on. Prints the endpoint's id and its signing secret, once."""
    _, made, secret = _create(url, owner, types)
    click.echo(f"id {made.id}\nsecret {secret}")


@webhook.command("list")
@click.option("--controller", "owner", help="Slug of the controller.")
def list_endpoints(owner: str | None) -> None:
    """List the endpoints of a controller."""
    with plain_errors(), reading() as session:
        controller_id, after = controller_named(session, owner).id, ""
        while views := endpoints.page(session, controller_id, after=after):
            for view in views:
                since = rfc3339(view.created_at)
                click.echo(f"{view.id}\t{view.state.value}\t{view.url}\t{','.join(view.types)}\tsince {since}")
            after = views[-1].id


@webhook.command("listen")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1; a free one by default.")
@click.option("--secret", help="whsec_… of an endpoint that exists; without it one is made, and deleted at the end.")
@click.option("--controller", "owner", help="Slug of the controller of the endpoint that is made.")
@click.option("--type", "types", multiple=True, help="Type of event for the endpoint that is made; repeat for more.")
def listen(port: int, secret: str | None, owner: str | None, types: tuple[str, ...]) -> None:
    """Print each webhook that arrives here and verifies, with its data: one line of JSON on standard output.

    What does not verify is answered with 401 and told on standard error.
    """
    _check_secret(secret)
    try:
        server = _Server(("127.0.0.1", port), _Handler)
    except OSError as error:
        raise BadInput(f"Port {port} cannot be used: {error.strerror}.") from None
    with server:
        if secret is None:
            _check_allowed(server.url)
        # From here on there may be something to clear away.
        stop = _asked_to_stop()
        if secret is not None:
            _serve(server, secret, stop)
            return
        controller_id, made, fresh = _create(server.url, owner, types)
        try:
            click.echo(f"endpoint {made.id}", err=True)
            _serve(server, fresh, stop)
        finally:
            with transaction() as session:
                endpoints.delete(session, controller_id, made.id, now=utc_now(), actor=OPERATOR)
            click.echo(f"endpoint {made.id} deleted", err=True)


def _asked_to_stop() -> threading.Event:
    """Set by SIGTERM, and by SIGINT even in a child of a shell, which starts those with SIGINT ignored."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _create(url: str, owner: str | None, types: tuple[str, ...]) -> tuple[str, endpoints.EndpointView, str]:
    with plain_errors(), transaction() as session:
        controller_id = controller_named(session, owner).id
        made, secret = endpoints.create(session, controller_id, url, types or None, now=utc_now(), actor=OPERATOR)
        return controller_id, made, secret


def _check_secret(secret: str | None) -> None:
    try:
        if secret is not None:
            rules.parse_secret(secret)
    except ValueError as error:
        raise BadInput(f"--secret: {error}.") from None


def _check_allowed(url: str) -> None:
    config: Config = current_app.extensions["signup.config"]
    try:
        check_url(url, Allowance.parse(config.outbound_allow))
    except OutboundRefused:
        raise BadInput(
            "Webhooks may not reach 127.0.0.1: set SIGNUP_OUTBOUND_ALLOW=127.0.0.1 for the worker and this command, "
            "or name an existing endpoint's secret with --secret."
        ) from None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    webhook: Webhook

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = READ_SECONDS

    def log_message(self, *_args: object) -> None:
        """Standard output is for what verified."""

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length") or ""
        if not length.isascii() or not length.isdigit():
            self._answer(411)
        elif int(length[:9]) > MAX_BODY_BYTES:
            self._answer(413)
        else:
            self._verify(self.rfile.read(int(length)))

    def _verify(self, body: bytes) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            payload = self.server.webhook.verify(body, headers)
            shown = {"id": headers["webhook-id"], "type": payload["type"], "verified": True, "data": payload["data"]}
        # The library lets the others escape on malformed headers and bodies.
        except (WebhookVerificationError, ValueError, TypeError, KeyError) as error:
            click.echo(f"refused: {type(error).__name__}", err=True)
            self._answer(401)
            return
        # One write a line, so that two threads cannot mix theirs; only ASCII, because it goes to a terminal and
        # visitors wrote parts of it.
        click.echo(json.dumps(shown))
        self._answer(204)

    def _answer(self, status: int) -> None:
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _serve(server: _Server, secret: str, stop: threading.Event) -> None:
    """Answer until somebody asks us to stop."""
    server.webhook = Webhook(secret)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    click.echo(f"listening {server.url}", err=True)
    stop.wait()
    server.shutdown()
    thread.join()


COMMANDS = (webhook,)
