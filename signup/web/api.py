"""What every view of the API shares: parsing, answering, cursors, idempotency, and its place in the description."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, NoReturn, TypeVar, get_args, get_type_hints

import msgspec
from flask import Blueprint, Response, abort, current_app, make_response, request
from msgspec import Meta, Struct

from signup.core.db import Session, reading, transaction
from signup.core.errors import DomainError, Invalid, NotFound
from signup.core.values import Actor, ClientInfo, rfc3339, utc_now
from signup.staff import idempotency
from signup.web import errors, guard
from signup.web.request import client_info

ROOT = "/api/v1"
DEFAULT_LIMIT = 50
ACCEPTED = 202
# What we make ourselves; anything else in a path is not one of ours, and not the database's to find out.
PATH_VALUE = "[A-Za-z0-9_-]{1,100}"
_PATH_VALUE = re.compile(PATH_VALUE)
_AT = re.compile(r" - at `\$\.?([^`]*)`$")

T = TypeVar("T")

# One line of text. A negative look-ahead, because `$` would let a final line feed pass.
Line = Annotated[str, Meta(min_length=1, max_length=500, pattern=r"^(?![\s\S]*[\x00-\x1f\x7f])")]

ShortText = Annotated[str, Meta(max_length=400)]


class Page(Struct, Generic[T]):
    """One page of a list."""

    items: list[T]
    next: Annotated[str | None, Meta(description="Send it as `cursor` to get the next page; null on the last one.")]


class Pending(Struct):
    """Taken, and in force only once a person has agreed; answered 202."""

    status: Literal["pending"]


class ListQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    cursor: Annotated[ShortText | None, Meta(description="`next` of the page before.")] = None
    limit: Annotated[int, Meta(ge=1, le=200, description="How many items at most.")] = DEFAULT_LIMIT


@dataclass(frozen=True)
class Call:
    """One call: who, when, from where."""

    controller_id: str
    actor: Actor
    client: ClientInfo
    now: datetime


@dataclass(frozen=True)
class Operation:
    """One method of one path, as its view declares it."""

    method: str
    path: str
    endpoint: str
    scope: str
    status: int
    summary: str
    description: str
    query: type[Struct] | None
    body: type[Struct] | None
    body_required: bool
    answer: Any
    media: str
    writes: bool
    raw: bool
    pending: bool  # whether it may also answer 202 and wait for a person
    takes: str | None = None


OPERATIONS: list[Operation] = []


def blueprint(name: str) -> Blueprint:
    """A blueprint of the API: it refuses whoever has no key, and what it answers is stored nowhere."""
    made = Blueprint(f"{name}_api", __name__, url_prefix=ROOT)
    made.before_request(guard.refuse_strangers)
    made.after_request(_private)
    return made


def _private(response: Response) -> Response:
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def operation(
    group: Blueprint,
    method: str,
    path: str,
    *,
    scope: str,
    status: int = 200,
    media: str = "application/json",
    writes: bool | None = None,
    takes: str | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The view serves this method and path, takes a key with `scope`, and is in the description of the API.

    Its parameters say what it reads: `session` and `call`, then `query` and `body` (msgspec structs, checked before
    the view runs), then the values in the path. What it returns is the answer. Session and commit are made here:
    an error leaves nothing behind. A view without `session` opens its own and returns a response.

    Args:
        writes: whether the session may write; by default unless it is a GET.
        takes: the type of a body that the view reads itself.
    """

    def declare(view: Callable[..., Any]) -> Callable[..., Any]:
        types = get_type_hints(view)
        body = types.get("body")
        declared = Operation(
            method=method,
            path=ROOT + path,
            scope=scope,
            status=status,
            **_words(group, view),
            **_answers(types),
            query=types.get("query"),
            body=body,
            body_required=body is not None and any(field.required for field in msgspec.structs.fields(body)),
            media=media,
            writes=method != "GET" if writes is None else writes,
            takes=takes,
        )
        OPERATIONS.append(declared)

        @functools.wraps(view)
        def served(**path_values: str) -> Response:
            return _serve(declared, view, path_values)

        group.add_url_rule(path, view.__name__, guard.needs(scope)(served), methods=[method])
        return view

    return declare


def _answers(types: dict[str, Any]) -> dict[str, Any]:
    """What a view returns, and whether it may also say that a person has to agree first."""
    returned, pending, raw = types["return"], Pending in get_args(types["return"]), "session" not in types
    if pending:
        returned = next(other for other in get_args(returned) if other is not Pending)
    return {"answer": None if raw or returned is type(None) else returned, "raw": raw, "pending": pending}


def _words(group: Blueprint, view: Callable[..., Any]) -> dict[str, Any]:
    """What the view is called, and what its docstring tells callers."""
    summary, _, rest = (view.__doc__ or "").strip().partition("\n")
    endpoint = f"{group.name}.{view.__name__}"
    return {
        "endpoint": endpoint,
        "summary": summary.rstrip("."),
        "description": re.sub(r"[ \t]*\n[ \t]*", "\n", rest).strip(),
    }


def _serve(declared: Operation, view: Callable[..., Any], path_values: dict[str, str]) -> Response:
    if not all(_PATH_VALUE.fullmatch(value) for value in path_values.values()):
        raise NotFound("There is nothing here.")
    caller = guard.caller()
    call = Call(caller.controller_id, caller.actor, client_info(request), utc_now())
    arguments: dict[str, Any] = dict(path_values)
    if declared.query is not None:
        arguments["query"] = parsed(declared.query, request.args.to_dict(), strict=False)
    if declared.body is not None:
        arguments["body"] = parsed(declared.body, _json_body(declared), strict=True)
    perform = functools.partial(_perform, declared, view, call, arguments)
    key = request.headers.get("Idempotency-Key") if declared.method == "POST" else None
    return perform(None) if key is None else _once(key, perform)


def _perform(
    declared: Operation,
    view: Callable[..., Any],
    call: Call,
    arguments: dict[str, Any],
    claim: idempotency.Claim | None,
) -> Response:
    if declared.raw:
        return make_response(view(call, **arguments))
    with transaction() if declared.writes else reading() as session:
        result = view(session, call, **arguments)
        answer = make_response(encode(result), _status(declared, result)) if declared.answer else make_response("", 204)
        answer.content_type = declared.media
        if claim is not None:
            _keep(session, claim, answer)
    return answer


def _status(declared: Operation, result: Any) -> int:
    return ACCEPTED if isinstance(result, Pending) else declared.status


def _once(key: str, perform: Callable[[idempotency.Claim | None], Response]) -> Response:
    """The call acts once, however often it is made with this key.

    The answer is kept in the commit of the effect, so a crash leaves both or neither.
    """
    caller = guard.caller()
    content = b"\x00".join((request.method.encode(), request.full_path.encode(), request.get_data()))
    with transaction() as session:
        got = idempotency.claim(session, caller, key, hashlib.sha256(content).digest(), now=utc_now())
    if isinstance(got, idempotency.Answer):
        repeated = make_response(got.body, got.status)
        repeated.content_type = got.content_type
        repeated.headers["Idempotent-Replayed"] = "true"
        return repeated
    try:
        return perform(got)
    except DomainError as error:
        refusal = make_response(current_app.handle_user_exception(error))
        with transaction() as session:
            if errors.status_of(error) in (429, 503):
                idempotency.release(session, got)
            else:
                _keep(session, got, refusal)
        return refusal
    except Exception:
        with transaction() as session:
            idempotency.release(session, got)
        raise


def _keep(session: Session, claim: idempotency.Claim, answer: Response) -> None:
    kept = idempotency.Answer(answer.status_code, answer.content_type or "", answer.get_data())
    idempotency.keep(session, claim, kept)


def encode(value: Any) -> bytes:
    """`value` as JSON, with times as RFC 3339 in UTC and milliseconds."""
    plain = msgspec.to_builtins(value, builtin_types=(datetime,))
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"), default=rfc3339).encode()


def _refuse(status: int, code: str, message: str) -> NoReturn:
    abort(errors.problem(status, code, message))


def _json_body(declared: Operation) -> Any:
    body = request.get_data()
    if not body and not declared.body_required:
        return {}
    if request.mimetype != "application/json":
        _refuse(415, "unsupported-media-type", "Send the body as JSON with `Content-Type: application/json`.")
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _refuse(400, "bad-json", f"The body is not JSON: {error}.")


def parsed(kind: type[Struct], data: Any, *, strict: bool) -> Any:
    """`data` as `kind`.

    Raises:
        Invalid: with one error for each field that is missing, unknown or wrong.
    """
    try:
        return msgspec.convert(data, kind, strict=strict)
    except msgspec.ValidationError as error:
        found = list(_field_errors(kind, data, strict)) if isinstance(data, dict) else []
        found = found or [{"field": "", "code": "invalid", "message": str(error)}]
        raise Invalid("Please check your input.", errors=found) from error


def _field_errors(kind: type[Struct], data: dict[str, Any], strict: bool, prefix: str = "") -> list[dict[str, str]]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    unknown = [name for name in data if name not in fields]
    found = [_field_error(prefix + name, "unknown", "There is no such field.") for name in unknown]
    for name, field in fields.items():
        value = data.get(name)
        if name not in data:
            if field.required:
                found.append(_field_error(prefix + name, "required", "This field is required."))
        elif isinstance(field.type, type) and issubclass(field.type, Struct) and isinstance(value, dict):
            found.extend(_field_errors(field.type, value, strict, f"{prefix}{name}."))
        else:
            try:
                msgspec.convert(value, field.type, strict=strict)
            except msgspec.ValidationError as error:
                found.append(_field_error(prefix + name, "invalid", _AT.sub("", str(error))))
    return found


def _field_error(field: str, code: str, message: str) -> dict[str, str]:
    return {"field": field, "code": code, "message": message}


def field_invalid(field: str, code: str, message: str) -> Invalid:
    """The error to raise when one field breaks a rule that its type cannot express."""
    return Invalid(message, errors=[_field_error(field, code, message)])


def position(name: str, query: ListQuery) -> str:
    """Where the page starts: the position in the cursor, or the beginning.

    Raises:
        Invalid: the cursor is not one of this list.
    """
    if query.cursor is None:
        return ""
    try:
        text = urlsafe_b64decode(query.cursor + "=" * (-len(query.cursor) % 4)).decode("ascii")
    except ValueError:
        text = ""
    listed, _, place = text.partition(":")
    if listed != name or not _PATH_VALUE.fullmatch(place):
        raise field_invalid("cursor", "invalid", "This cursor is not from this list.")
    return place


def page(name: str, query: ListQuery, items: list[T], place: Callable[[T], str]) -> Page[T]:
    """One page of `items`, of which there is one more than asked for when another page follows."""
    shown = items[: query.limit]
    if len(items) <= query.limit:
        return Page(shown, None)
    return Page(shown, urlsafe_b64encode(f"{name}:{place(shown[-1])}".encode()).decode().rstrip("="))
