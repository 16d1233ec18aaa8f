"""Which HTTP status an error becomes, once, as a page or as problem JSON."""

from __future__ import annotations

import io
import logging
from typing import Any

from flask import Flask, jsonify, make_response, render_template, request
from flask_babel import gettext as _
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge
from werkzeug.wrappers import Response

from signup.core import errors
from signup.web.request import FormRequest, wants_json

log = logging.getLogger(__name__)

STATUS: dict[type[errors.DomainError], int] = {
    errors.NotFound: 404,
    errors.Gone: 410,
    errors.Invalid: 422,
    errors.Conflict: 409,
    errors.Forbidden: 403,
    errors.Unauthenticated: 401,
    errors.TooMany: 429,
    errors.Busy: 503,
}

MAX_BODY_BYTES = 1024 * 1024
# A client that is still sending does not listen. Up to this much is read, so that it hears our answer.
DRAIN_BYTES = 4 * 1024 * 1024
_CHUNK = 64 * 1024


def status_of(error: errors.DomainError) -> int:
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return 400


def problem(
    status: int, code: str, message: str, *, retry_after: int | None = None, more: dict[str, Any] | None = None
) -> Response:
    """An error as JSON.

    Rule: RFC 9457.
    """
    body = {
        "type": f"urn:signup:error:{code}",
        "title": title_of(status),
        "status": status,
        "code": code,
        "detail": message,
    }
    response = make_response(jsonify({**body, **(more or {})}), status)
    response.content_type = "application/problem+json"
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    return response


def title_of(status: int) -> str:
    titles: dict[int, str] = {
        400: _("This request cannot be read"),
        401: _("Please identify yourself"),
        403: _("This is not allowed"),
        404: _("There is nothing here"),
        405: _("This does not work that way"),
        409: _("This clashes with what is there"),
        410: _("This is over"),
        413: _("That was too much"),
        415: _("This format is not understood"),
        422: _("Please check your input"),
        429: _("Too many requests"),
        503: _("Busy for a moment"),
    }
    return titles.get(status) or str(_("Something went wrong on our side"))


def message_of(status: int) -> str:
    messages: dict[int, str] = {
        400: _("The request is incomplete or garbled. Please go back and try again."),
        404: _("The address may be mistyped, or the link was cut off. Please copy the whole link from the mail."),
        405: _("Please open the page first and use its button."),
        413: _("The request is larger than 1 MiB. Please send less."),
        415: _("Please send a form, or JSON as application/json."),
        429: _("Your network has sent many requests. Please wait a little."),
        503: _("Please try again in a moment. Sent twice, it counts once."),
    }
    return messages.get(status) or str(
        _("Please try again; sent twice, it counts once. If it stays like this, tell the operator.")
    )


def page(status: int, *, message: str | None = None, retry_after: int | None = None) -> Response:
    """An error as a page that says what to do."""
    html = render_template(
        "errors/error.html",
        code=status,
        title=title_of(status),
        message=message or message_of(status),
        retry_after=retry_after,
        controller=None,
    )
    response = make_response(html, status)
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    return response


def bound_body() -> None:
    """A body is read here, up to the limit, so that none is cut without a word: neither by us nor on its way.

    Raises:
        RequestEntityTooLarge: it has no stated length and is above the limit.
        BadRequest: less came than the client said, or its chunks are none.

    Rule: RFC 9112 8, an incomplete message must not be taken for a whole one.
    """
    environ = request.environ
    chunked = "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
    said = MAX_BODY_BYTES + 1 if chunked else request.content_length or 0
    if not chunked and not 0 < said <= MAX_BODY_BYTES:
        return
    try:
        body = environ["wsgi.input"].read(said)
    except Exception:
        # Each server has exceptions of its own for bytes that are no body; all of them are the client's doing.
        raise BadRequest from None
    if chunked and len(body) > MAX_BODY_BYTES:
        raise RequestEntityTooLarge
    if not chunked and len(body) < said:
        raise BadRequest
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))


def drain() -> None:
    """An oversized body is read and dropped, up to a bound."""
    left = DRAIN_BYTES
    while left > 0:
        chunk = request.environ["wsgi.input"].read(min(_CHUNK, left))
        if not chunk:
            return
        left -= len(chunk)


def _detail_of(status: int) -> str:
    """What a program is told: it opened no mail that could be cut off, and has no page to go back to."""
    if status == 404 and request.path.startswith("/api/"):
        return "No such path or record; /api/v1/docs lists the paths."
    return message_of(status)


def _answer(
    status: int, code: str, message: str | None, *, retry_after: int | None = None, more: Any = None
) -> Response:
    if request.path.startswith("/api/") or wants_json(request):
        return problem(status, code, message or _detail_of(status), retry_after=retry_after, more=more)
    return page(status, message=message, retry_after=retry_after)


def install(app: Flask) -> None:
    """Every error of `app` becomes an answer that says what to do."""
    app.request_class = FormRequest

    @app.errorhandler(errors.DomainError)
    def domain_error(error: errors.DomainError) -> Response:
        status = status_of(error)
        if isinstance(error.__cause__, DBAPIError):
            log.error("the database cannot be used", exc_info=error.__cause__)
        retry_after = error.retry_after_seconds if isinstance(error, errors.TooMany) else None
        message = error.message if request.path.startswith("/api/") else None
        answer = _answer(status, error.code, message, retry_after=retry_after, more=error.details)
        if status == 401:
            answer.headers["WWW-Authenticate"] = "Bearer"
        return answer

    @app.errorhandler(RequestEntityTooLarge)
    def too_large(_error: RequestEntityTooLarge) -> Response:
        drain()
        return _answer(413, "too-large", None)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        status = error.code or 500
        answer = _answer(status, str(error.name).lower().replace(" ", "-"), None)
        for name, value in error.get_headers(None):
            if name in ("Allow", "Retry-After"):
                answer.headers[name] = value
        return answer

    @app.errorhandler(OperationalError)
    @app.errorhandler(PoolTimeout)
    def database_away(error: Exception) -> Response:
        log.error("the database cannot be used", exc_info=error)
        return _answer(503, "busy", None, retry_after=5)

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        log.exception("unexpected error", exc_info=error)
        return _answer(500, "internal", None)
