"""Health, readiness and metrics, for machines."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable, Iterator

from flask import Blueprint, Response, jsonify, make_response, request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from signup.alarms import actions as alarms
from signup.core.db import reading
from signup.core.errors import Forbidden
from signup.core.values import utc_now
from signup.eventlog.health import Part
from signup.reports import queries
from signup.web.request import config

blueprint = Blueprint("reports", __name__)

# What proxies add, next to X-Forwarded-*: a request with one of these came from further away than it looks.
FORWARDING_HEADERS = frozenset(
    ("forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "cf-connecting-ip")
)


@blueprint.get("/healthz")
def health() -> Response:
    """The process answers. Says nothing about the database, so that a database fault restarts nobody."""
    return jsonify({"status": "up"})


@blueprint.get("/readyz")
def ready() -> Response:
    """The database is reached, migrated, and its queues move."""
    now = utc_now()
    with reading() as session:
        current = queries.current_migration(session)
        newest = queries.newest_migration()
        # Newer is fine: migrations only add, and a rolling restart runs the old program on the new database.
        if current is None or current < newest:
            return _not_ready(
                f"the database is at migration {current}, this program needs {newest}: run flask db upgrade"
            )
        waiting = queries.waiting_since(session, now=now)
    ages = {name: int((now - since).total_seconds()) for name, since in waiting.items()}
    stale = sorted(name for name, age in ages.items() if age > queries.STALE_SECONDS)
    age = max(ages.values(), default=0)
    # A slow queue is told but keeps no visitor out: their sign-ups are safe in it.
    return jsonify({"status": "ready", "migration": current, "queue_age_seconds": age, "stale": stale})


def _not_ready(reason: str) -> Response:
    return make_response(jsonify({"status": "not ready", "reason": reason}), 503)


@blueprint.get("/metrics")
def metrics() -> Response:
    """Prometheus text, for this machine or the holder of the token."""
    if not (_direct_loopback() or _has_token()):
        raise Forbidden("Metrics are for this machine, or with the token of SIGNUP_METRICS_TOKEN.")
    now = utc_now()
    with reading() as session:
        figures = queries.figures(session, now=now)
        standing = alarms.standing_by_kind(session)
    registry = CollectorRegistry()
    registry.register(_Collector(figures, standing, now.timestamp()))
    return make_response(generate_latest(registry), 200, {"Content-Type": CONTENT_TYPE_LATEST})


def _direct_loopback() -> bool:
    try:
        local = ipaddress.ip_address(request.remote_addr or "").is_loopback
    except ValueError:
        return False
    names = {name.lower() for name, _value in request.headers}
    forwarded = names & FORWARDING_HEADERS or [name for name in names if name.startswith("x-forwarded-")]
    return local and not forwarded


def _has_token() -> bool:
    token = config().metrics_token
    given = request.headers.get("Authorization", "")
    return bool(token) and hmac.compare_digest(given.encode(), f"Bearer {token}".encode())


class _Collector(Collector):
    """The figures in Prometheus' words."""

    def __init__(self, figures: queries.Figures, alarms: dict[str, int], now: float) -> None:
        self.figures = figures
        self.alarms = alarms
        self.now = now

    def collect(self) -> Iterator[Metric]:
        figures, totals = self.figures, self.figures.totals
        ages = {line.kind: self.now - line.oldest_due_at.timestamp() for line in figures.backlog if line.oldest_due_at}
        oldest = figures.oldest_delivery_at
        yield _gauge("signup_jobs_due", "Jobs that wait", "kind", ((row.kind, row.due) for row in figures.backlog))
        yield _gauge("signup_jobs_dead", "Jobs given up", "kind", ((row.kind, row.dead) for row in figures.backlog))
        yield _gauge("signup_jobs_oldest_seconds", "Age of the oldest due job", "kind", ages.items())
        yield _gauge("signup_messages", "Mails by state", "state", totals["messages"].items())
        yield _gauge("signup_deliveries", "Webhook deliveries by state", "state", totals["deliveries"].items())
        yield _gauge("signup_subscriptions", "Subscriptions by status", "status", totals["subscriptions"].items())
        yield _gauge("signup_endpoints", "Webhook endpoints by state", "state", totals["endpoints"].items())
        yield _gauge("signup_reports", "Reports of the last 30 days by kind", "kind", totals["reports"].items())
        yield _gauge("signup_alarms", "Alarms that stand", "kind", self.alarms.items())
        yield GaugeMetricFamily(
            "signup_deliveries_oldest_seconds",
            "Age of the oldest due delivery",
            value=self.now - oldest.timestamp() if oldest else 0.0,
        )
        yield from self._log()

    def _log(self) -> Iterator[Metric]:
        log = self.figures.log
        waits = self.now - log.unsealed_since.timestamp() if log.unsealed_since else 0.0
        unstamped = self.now - log.unstamped_since.timestamp() if log.unstamped_since else 0.0
        yield _single("signup_log_size", "Leaves of the evidence log", log.size)
        yield _single("signup_log_unsealed", "Events that wait for their place in the log", log.unsealed)
        yield _single("signup_log_unsealed_oldest_seconds", "Age of the oldest event without a place", waits)
        yield _single("signup_log_unstamped_seconds", "Age of the oldest checkpoint that no stamp covers", unstamped)
        times = {"sealed": log.sealed_at, "stamped": log.stamped_at}
        times |= {part.value: found.checked_at for part, found in log.parts.items() if part is Part.AUDIT}
        done = ((name, at.timestamp()) for name, at in times.items() if at)
        yield _gauge("signup_log_done_timestamp_seconds", "When it was done last", "act", done)
        sound = ((part.value, float(found.trouble is None)) for part, found in log.parts.items())
        yield _gauge("signup_log_sound", "1 if nothing was wrong the last time, 0 if something was", "part", sound)


def _single(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _gauge(name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values:
        family.add_metric([key], value)
    return family
