"""One JSON line per log record, without tokens, addresses or secrets."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog

_TOKEN_PATHS = re.compile(r"(/(?:confirm|code|not-me|unsubscribe|preferences|session|pending)/)[^/?\s\"']+")
_ADDRESS = re.compile(r"[^\s\"'<>@,;:()]+@[^\s\"'<>@,;:()]+")
_SECRET = re.compile(r"\b(?:whsec_|sk_)[A-Za-z0-9+/=_-]{8,}")


def redact(text: str) -> str:
    """`text` without mailed tokens, e-mail addresses and keys."""
    text = _TOKEN_PATHS.sub(r"\1[token]", text)
    text = _ADDRESS.sub("[address]", text)
    return _SECRET.sub("[secret]", text)


def _redacted(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {key: redact(value) if isinstance(value, str) else value for key, value in event.items()}


def setup(level: int = logging.INFO) -> None:
    """Everything logged in this process, by libraries too, goes to standard error as JSON."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _redacted,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Both repeat what our own lines say.
    for noisy in ("alembic.runtime.migration", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
