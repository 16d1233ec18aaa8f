"""Run with a service's settings: so many deliveries are due, all to one address; none is, with 0."""

from __future__ import annotations

import os
import sys

from sqlalchemy import text, update

from signup.app import create_app
from signup.core.config import Config
from signup.core.db import transaction
from signup.core.values import utc_now
from signup.webhooks.models import Delivery, DeliveryState


def main() -> None:
    count, url = int(sys.argv[1]), sys.argv[2]
    app = create_app(Config.from_env(os.environ))
    with app.app_context(), transaction() as session:
        session.execute(text("UPDATE endpoint SET url = :url, state = 'active'"), {"url": url})
        session.execute(text("UPDATE delivery SET state = 'dead' WHERE state = 'due'"))
        owed = session.execute(text("SELECT id FROM delivery WHERE state <> 'due' LIMIT :count"), {"count": count})
        ids = [row.id for row in owed]
        if len(ids) < count:
            raise SystemExit(f"there are only {len(ids)} deliveries")
        if ids:
            due = {"state": DeliveryState.DUE, "next_at": utc_now(), "attempt": 0, "lease_token": None}
            session.execute(update(Delivery), [{"id": ident, **due} for ident in ids])


if __name__ == "__main__":
    main()
