"""Exports, for programs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Literal

from flask import Response, current_app, request, stream_with_context
from msgspec import Struct

from signup.core.db import database
from signup.core.values import utc_now
from signup.transfer import exporting
from signup.transfer.exporting import MEDIA, Order
from signup.web import api
from signup.web.api import Call

blueprint = api.blueprint("export")


class ExportQuery(Struct, forbid_unknown_fields=True):
    status: Literal["requested", "active", "ended", "expired", "refused"] | None = None


@api.operation(blueprint, "GET", "/export/subscriptions.csv", scope="export", media=MEDIA["csv"])
def export_csv(call: Call, query: ExportQuery) -> Response:
    """Export all subscriptions as CSV.

    Streamed; every cell is quoted, and one that a spreadsheet would take for a formula starts with an apostrophe. \
Addresses that nobody confirmed are left out. The end of the export is an event.
    """
    return _streamed(Order(call.controller_id, call.actor, "csv", query.status))


@api.operation(blueprint, "GET", "/export/subscriptions.jsonl", scope="export", media=MEDIA["jsonl"])
def export_jsonl(call: Call, query: ExportQuery) -> Response:
    """Export all subscriptions as JSON lines, exact values.

    Streamed. Addresses that nobody confirmed are left out. The end of the export is an event.
    """
    return _streamed(Order(call.controller_id, call.actor, "jsonl", query.status))


def _streamed(order: Order) -> Response:
    if request.method == "HEAD":
        # Asking what there would be takes nothing out.
        return _described(current_app.response_class(content_type=MEDIA[order.form]), order)
    chunks = exporting.stream(database(), order, clock=utc_now)
    # The first page is made before the status line leaves, so that a database that is away is a 503 and not a stub.
    first = next(chunks, b"")
    answer = current_app.response_class(stream_with_context(_joined(first, chunks)), content_type=MEDIA[order.form])
    return _described(answer, order)


def _described(answer: Response, order: Order) -> Response:
    answer.headers["Content-Disposition"] = f'attachment; filename="subscriptions.{order.form}"'
    return answer


def _joined(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield from chain([first], rest)
