"""An endpoint on a real receiver, and a courier that posts to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from signup.core.db import reading, transaction
from signup.core.values import utc_now
from signup.eventlog.record import publish
from signup.webhooks import deliveries, endpoints
from signup.webhooks.deliveries import DeliveryView
from signup.webhooks.models import Delivery
from signup.webhooks.send import Courier
from tests.support.receiver import Receiver

TYPE = "subscription.confirmed"


class Desk:
    """What these tests do to one controller's endpoints, each act in its own commit."""

    def __init__(self, controller_id: str) -> None:
        self.controller_id = controller_id
        self.couriers: list[Courier] = []

    def endpoint(self, url: str, types: list[str] | None = None, *, now: datetime | None = None) -> SimpleNamespace:
        with transaction() as session:
            view, secret = endpoints.create(session, self.controller_id, url, types, now=now or utc_now())
        return SimpleNamespace(id=view.id, secret=secret, view=view, url=url)

    def update(self, endpoint_id: str, *, now: datetime | None = None, **parts: Any) -> endpoints.EndpointView:
        with transaction() as session:
            return endpoints.update(session, self.controller_id, endpoint_id, now=now or utc_now(), **parts)

    def publish(self, data: dict[str, object] | None = None, type_: str = TYPE, *, now: datetime | None = None) -> str:
        with transaction() as session:
            return publish(session, self.controller_id, type_, data or {"n": 1}, now=now or utc_now())

    def resend(self, delivery_id: str, *, now: datetime | None = None) -> DeliveryView:
        with transaction() as session:
            return deliveries.resend(session, self.controller_id, delivery_id, now=now or utc_now())

    def deliveries(self, endpoint_id: str | None = None) -> list[DeliveryView]:
        with reading() as session:
            return deliveries.page(session, self.controller_id, endpoint_id=endpoint_id)

    def only(self) -> DeliveryView:
        [found] = self.deliveries()
        return found

    def row(self, delivery_id: str) -> Delivery:
        with reading() as session:
            return session.scalars(select(Delivery).where(Delivery.id == delivery_id)).one()

    def courier(self, **options: Any) -> Courier:
        courier = Courier(**options)
        self.couriers.append(courier)
        return courier

    def run(self, clock: Callable[[], datetime] = utc_now, courier: Courier | None = None) -> None:
        """Until nothing is due and nothing is under way."""
        used = courier or self.courier(jitter=lambda: 0.0)
        while used(clock):
            pass


@pytest.fixture
def desk(app: Flask, demo: SimpleNamespace) -> Iterator[Desk]:
    desk = Desk(demo.controller.id)
    yield desk
    for courier in desk.couriers:
        courier.close(utc_now)


@pytest.fixture
def endpoint(desk: Desk, receiver: Receiver) -> SimpleNamespace:
    return desk.endpoint(receiver.url)
