"""What an HTTP request tells about its client, and what every public page sends along."""

from __future__ import annotations

from typing import Any, Final

from flask import Request, current_app, g
from werkzeug.exceptions import BadRequest
from werkzeug.formparser import FormDataParser
from werkzeug.wrappers import Response

from signup.abuse import scanners
from signup.core.config import Config
from signup.core.values import ClientInfo, clean_text, plain_ip
from signup.forms.rules import FormView, origin_of

# No script, no foreign asset, nothing inline: a page of ours cannot be made to leak.
PUBLIC_CSP: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
# The pages of ours with a script: it solves the challenge.
SECOND_CSP: Final = f"{PUBLIC_CSP}; script-src 'self'; connect-src 'self'"
MAX_USER_AGENT = 500


class WholeFormParser(FormDataParser):
    """Reads a form, or says that it cannot: a garbled multipart body is not an empty form."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "silent": False})

    def parse(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().parse(*arguments, **options)
        except ValueError:
            raise BadRequest from None


class FormRequest(Request):
    form_data_parser_class = WholeFormParser


def config() -> Config:
    found: Config = current_app.extensions["signup.config"]
    return found


def speak(view: FormView) -> None:
    """The rest of this request is in the language, tone, colour and time zone of this form and its controller."""
    g.locale = view.locale
    g.informal = view.informal
    g.accent = view.accent
    g.timezone = view.controller.timezone


def client_info(request: Request) -> ClientInfo:
    """Who asked. Only as many X-Forwarded-For entries count as there are proxies we were told to trust.

    Rule: GDPR 5(1)(d), an address in a proof must be the right one, and the proof says how we know it.
    """
    hops = config().trusted_proxies
    forwarded = request.headers.get("X-Forwarded-For", "")
    peer = request.remote_addr or ""
    source = "connection"
    if hops:
        chain = [part.strip() for part in forwarded.split(",") if part.strip()]
        if len(chain) >= hops:
            peer, source = chain[-hops], f"forwarded by {hops} trusted proxies"
        else:
            source = "connection; the proxy named no client"
    elif forwarded:
        source = "connection; an untrusted forwarding header was ignored"
    return ClientInfo(
        ip=plain_ip(peer),
        ip_source=source,
        user_agent=clean_text(request.headers.get("User-Agent", ""), MAX_USER_AGENT),
        fetch_site=clean_text(request.headers.get("Sec-Fetch-Site", ""), 20),
    )


def is_person(request: Request) -> bool:
    """Whether nothing says that a machine, or a browser that loads ahead, asks for this page."""
    client = client_info(request)
    ahead = " ".join(request.headers.get(name, "") for name in ("Sec-Purpose", "Purpose", "X-Moz"))
    return scanners.is_person(request.method, client.user_agent, client.ip, ahead)


def is_cross_site(request: Request) -> bool:
    """Whether a POST to one of our own pages certainly came from somebody else's page.

    A missing header proves nothing and refuses nobody: old browsers and mail clients send none.
    """
    if request.headers.get("Sec-Fetch-Site") == "cross-site":
        return True
    origin = request.headers.get("Origin")
    return bool(origin) and origin != origin_of(config().public_url) and origin != origin_of(request.host_url)


def wants_json(request: Request) -> bool:
    """Whether the client asked for JSON rather than a page."""
    best = request.accept_mimetypes.best_match(["text/html", "application/json"], default="text/html")
    return bool(best == "application/json")


def lead_on(response: Response, url: str) -> None:
    """Forms of this page may end at `url`: browsers hold a form's redirect to the same list as its action."""
    policy = response.headers.get("Content-Security-Policy", PUBLIC_CSP)
    response.headers["Content-Security-Policy"] = policy.replace(
        "form-action 'self';", f"form-action 'self' {origin_of(url)};"
    )


def mask_token_page(response: Response) -> Response:
    """A page behind a mailed link is not stored, not indexed, and its address goes to nobody else."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["X-Robots-Tag"] = "noindex, nofollow"
    return response
