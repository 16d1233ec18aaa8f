"""The rig's own tests run alone too, so its fixtures are brought in here."""

from tests.support.fixtures import chromium, postgres_server, receiver, smtp_server

__all__ = ["chromium", "postgres_server", "receiver", "smtp_server"]
