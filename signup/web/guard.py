"""Who may call a view of the API: nobody, unless the view says which scope it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flask import current_app, g, request

from signup.core.db import reading
from signup.core.errors import Forbidden, Unauthenticated
from signup.staff import access
from signup.staff.access import SCOPES, ApiCaller

V = TypeVar("V", bound=Callable[..., Any])

# The attribute of a view that says who may call it: a scope, or PUBLIC.
ATTRIBUTE = "api_scope"
PUBLIC = "public"


def needs(scope: str) -> Callable[[V], V]:
    """The view takes a key with this scope."""
    if scope not in SCOPES:
        raise ValueError(f"there is no scope {scope!r}")
    return _marked(scope)


def _marked(value: str) -> Callable[[V], V]:
    def mark(view: V) -> V:
        setattr(view, ATTRIBUTE, value)
        return view

    return mark


def public(view: V) -> V:
    """The view is open to everybody; only the description of the API is."""
    return _marked(PUBLIC)(view)


def scope_of(view: Callable[..., Any]) -> str | None:
    """The scope a view takes, PUBLIC, or None: nobody may call it."""
    found = getattr(view, ATTRIBUTE, None)
    return found if found is None else str(found)


def refuse_strangers() -> None:
    """Run before every view of an API blueprint: the caller is known and has the scope, or is refused.

    Raises:
        Unauthenticated, Forbidden: as the case may be.
    """
    scope = scope_of(current_app.view_functions[request.endpoint or ""])
    if scope == PUBLIC:
        return
    kind, _, key = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not key.strip():
        raise Unauthenticated("Send an API key as `Authorization: Bearer sk_…`.")
    with reading() as session:
        g.api_caller = access.authenticate(session, key.strip())
    if scope is None or scope not in g.api_caller.scopes:
        raise Forbidden(f"This key lacks the scope {scope}.", code="missing-scope", details={"scope": scope})


def caller() -> ApiCaller:
    """Who calls; known once `refuse_strangers` let the call pass."""
    found: ApiCaller = g.api_caller
    return found
