"""The WSGI application: `gunicorn wsgi:app`, and what `flask` finds."""

import os
import sys

from signup.app import create_app
from signup.core import logs
from signup.core.config import Config, ConfigError

logs.setup()
try:
    app = create_app(Config.from_env(os.environ))
except ConfigError as error:
    for problem in error.problems:
        print(f"signup: {problem}", file=sys.stderr)
    sys.exit(2)
