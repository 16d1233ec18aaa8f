"""What gunicorn serves in a rig: wsgi:app under the rig's clock."""

from tests.faults import clock

clock.install()

from wsgi import app  # noqa: E402 - the clock comes first

__all__ = ["app"]
