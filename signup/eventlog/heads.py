"""The newest checkpoint that this machine signed, kept beside the database: one that was put back is noticed by it."""

from __future__ import annotations

import base64
import os
import re
from datetime import datetime
from pathlib import Path

from signup.core.config import Config
from signup.eventlog.merkle import Tree, TreeDamaged
from signup.eventlog.notes import Head

FILE = "evidence-head"
_LATER_NAME = re.compile(r"/\d{8}T\d{9}Z$")


def path_of(config: Config) -> Path:
    return config.instance / FILE


def remember(config: Config, note: str) -> None:
    """This machine knows what it signed last, whatever becomes of the database."""
    path = path_of(config)
    temporary = path.with_name(f".{FILE}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(note)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def last_signed(config: Config) -> Head | None:
    """What this machine signed last; None when it never signed.

    Raises:
        TreeDamaged: there is something that cannot be read.
    """
    path = path_of(config)
    try:
        origin, size, root = path.read_text(encoding="utf-8").split("\n")[:3]
        return Head(origin, int(size), base64.b64decode(root, validate=True))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise TreeDamaged(f"{path} cannot be read: {error}") from error


def check(held: Head, name: str, tree: Tree) -> None:
    """The log goes on from what this machine signed.

    Args:
        name: the one under which the log would be signed now.

    Raises:
        TreeDamaged: it does not, and to sign it would contradict that; says in what.

    Rule: C2SP tlog-checkpoint (a log never signs two trees that contradict each other).
    """
    signed = f"this machine signed {held.size} leaves for {held.origin}"
    if held.origin != name:
        # A name of later is the operator's word that the database was put back on purpose.
        if base(held.origin) != base(name) or held.origin > name:
            raise TreeDamaged(f"{signed}, and the database is of {name}")
        return
    if tree.size < held.size:
        raise TreeDamaged(f"{signed}, and there are {tree.size}: the database was put back to an earlier state")
    if tree.root(held.size) != held.root:
        raise TreeDamaged(f"{signed}, and the first {held.size} of the database have another root")


def base(name: str) -> str:
    """The name of the log without what a restore added."""
    return _LATER_NAME.sub("", name)


def later_name(name: str, *, now: datetime) -> str:
    """A name that no state of this log ever had: one by count could be given twice, by two restores of one backup."""
    return f"{base(name)}/{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}Z"
