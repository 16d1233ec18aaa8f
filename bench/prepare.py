"""Run with a service's settings: the schema and the demo exist, and an API key is printed as JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path

from flask_migrate import upgrade

from signup import demo
from signup.app import create_app
from signup.core.config import Config
from signup.core.db import transaction
from signup.core.values import utc_now
from signup.staff import access


def main() -> None:
    app = create_app(Config.from_env(os.environ))
    with app.app_context():
        upgrade(directory=str(Path(__file__).parents[1] / "migrations"))
        with transaction() as session:
            controller = demo.seed(session, now=utc_now())
            made = access.create_key(session, controller.id, "bench", list(access.SCOPES), now=utc_now())
    print(json.dumps({"controller": controller.id, "api_key": made.secret}))


if __name__ == "__main__":
    main()
