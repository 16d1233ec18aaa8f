"""What the program knows by name: settings and commands."""

from __future__ import annotations

import re
from collections.abc import Sequence

import click
from flask import Flask

from tests.support.servers import ROOT

# Read by gunicorn itself.
FOREIGN = {"FORWARDED_ALLOW_IPS"}


def is_setting(name: str) -> bool:
    """Whether docs/operations.md explains it, which a guard holds against the source."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    part = text.partition("\n## Settings\n")[2].partition("\n## ")[0]
    told = set(re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE))
    return name in told | FOREIGN or name.removesuffix("_FILE") in told


def is_command(app: Flask, words: Sequence[str]) -> bool:
    """Whether `flask WORDS` names a command that is there."""
    found: click.Command | None = app.cli
    for word in words:
        if not isinstance(found, click.Group):
            break
        found = found.commands.get(word)
    return found is not None and not isinstance(found, click.Group)
