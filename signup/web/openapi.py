"""The description of the API: OpenAPI for programs, a page for people, both made from what the views declare."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec
from flask import Blueprint, current_app, render_template
from msgspec import Struct
from werkzeug.wrappers import Response

import signup
from signup.staff.access import SCOPES
from signup.web import guard
from signup.web.api import OPERATIONS, PATH_VALUE, ROOT, Operation, encode
from signup.web.request import config

INTRODUCTION = (
    "Sign-ups with proof, for programs. Every call needs a key: `Authorization: Bearer sk_…`. A key belongs to one "
    "controller and has scopes; whoever runs the service makes one with `flask api-key create`.\n\n"
    "Times are RFC 3339 in UTC with milliseconds. Errors are problem JSON (RFC 9457) with a stable `code`; wrong "
    "input is named field by field in `errors`. Lists answer `items` and `next`; send `next` as `cursor` to go on.\n\n"
    "Every POST takes an `Idempotency-Key` of your choice. The same key with the same request gets the first answer "
    "again for 24 hours, with the header `Idempotent-Replayed: true`, and acts only once."
)

ERRORS = {
    400: "The body is not JSON.",
    401: "No key, or one that does not work.",
    403: "The key lacks the scope.",
    404: "There is no such thing, or it belongs to somebody else.",
    409: "The rules or the present state forbid it; `code` and `detail` say why.",
    410: "It is over.",
    413: "The body is larger than 1 MiB.",
    415: "The body is not `application/json`.",
    422: "Something in the request breaks a rule; `errors` names the fields.",
    429: "A budget is spent; `Retry-After` says when to try again.",
    503: "Busy, nothing was changed; try again after `Retry-After` seconds.",
}

MEDIA_OF_ERRORS = "application/problem+json"


class FieldProblem(Struct):
    field: str
    code: str
    message: str


class Problem(Struct, omit_defaults=True):
    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[FieldProblem] = []


blueprint = Blueprint("api", __name__, url_prefix=ROOT)
blueprint.before_request(guard.refuse_strangers)


@blueprint.get("/openapi.json")
@guard.public
def openapi() -> Response:
    """The description as OpenAPI 3.1."""
    return current_app.response_class(encode(description(config().public_url)), content_type="application/json")


@blueprint.get("/docs")
@guard.public
def docs() -> str:
    """The description as a page that needs no script."""
    spec = description(config().public_url)

    def resolve(reference: str) -> Any:
        found: Any = spec
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        return found

    return render_template("api/docs.html", spec=spec, resolve=resolve)


@lru_cache(maxsize=4)
def description(public_url: str) -> dict[str, Any]:
    """OpenAPI 3.1 for every operation that was declared.

    Rule: OpenAPI Specification 3.1.1.
    """
    types = [kind for item in OPERATIONS for kind in (item.body, item.answer) if kind is not None]
    types += [item.query for item in OPERATIONS if item.query is not None] + [Problem]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schema_of = {str(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for item in sorted(OPERATIONS, key=lambda one: one.path):
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", item.path)
        paths.setdefault(path, {})[item.method.lower()] = _operation(item, schema_of, components)
    queries = {_name(schema_of[str(item.query)]) for item in OPERATIONS if item.query is not None}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Signup API", "version": signup.__version__, "description": INTRODUCTION},
        "servers": [{"url": public_url}],
        "tags": [{"name": tag} for tag in dict.fromkeys(_tag(item) for item in OPERATIONS)],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": {name: schema for name, schema in components.items() if name not in queries},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Scopes: " + "; ".join(f"`{name}` {line}" for name, line in SCOPES.items()) + ".",
                }
            },
        },
    }


def _tag(item: Operation) -> str:
    return item.endpoint.partition("_api.")[0].capitalize()


def _name(schema: dict[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _operation(item: Operation, schema_of: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": f"^{PATH_VALUE}$"}}
        for name in re.findall(r"<(?:\w+:)?(\w+)>", item.path)
    ]
    if item.query is not None:
        parameters += _query_parameters(components[_name(schema_of[str(item.query)])])
    if item.method == "POST":
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "Makes repeating this call safe for 24 hours.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            }
        )
    described: dict[str, Any] = {
        "operationId": item.endpoint.replace("_api.", "_"),
        "tags": [_tag(item)],
        "summary": item.summary,
        "description": item.description,
        "security": [{"bearer": [item.scope]}],
        "parameters": parameters,
        "responses": _responses(item, schema_of),
    }
    if item.body is not None:
        content = {"application/json": {"schema": schema_of[str(item.body)]}}
        described["requestBody"] = {"required": item.body_required, "content": content}
    if item.takes is not None:
        # Any bytes at all: what cannot be read is taken too.
        described["requestBody"] = {"required": False, "content": {item.takes: {"schema": {}}}}
    return described


def _query_parameters(schema: dict[str, Any]) -> list[dict[str, Any]]:
    required = schema.get("required", [])
    made = []
    for name, field in schema["properties"].items():
        rest = {key: value for key, value in field.items() if key != "description"}
        text = {"description": field["description"]} if "description" in field else {}
        made.append({"name": name, "in": "query", "required": name in required, **text, "schema": rest})
    return made


def _responses(item: Operation, schema_of: dict[str, Any]) -> dict[str, Any]:
    done: dict[str, Any] = {"description": "Done."}
    if item.raw:
        done["content"] = {item.media: {"schema": {"type": "string"}}}
    elif item.answer is not None:
        done["content"] = {item.media: {"schema": schema_of[str(item.answer)]}}
    statuses = {401, 403, 503}
    if "<" in item.path:
        statuses.add(404)
    if item.query is not None or item.body is not None or item.method == "POST":
        statuses.add(422)
    if item.body is not None or item.takes is not None:
        statuses |= {400, 413, 415}
    if item.method == "POST" or item.pending:
        statuses.add(409)
    if item.pending:
        statuses.add(429)
    problem = {"content": {MEDIA_OF_ERRORS: {"schema": schema_of[str(Problem)]}}}
    refused = {str(status): {"description": ERRORS[status], **problem} for status in sorted(statuses)}
    waiting = {"202": {"description": "Taken; in force once the person has agreed."}} if item.pending else {}
    return {str(item.status): done, **waiting, **refused}
