"""Loaded by every Python of a machine before anything else: says on standard error what it is about to write where."""

import os
import sys

SIGN = "on disk: "
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_MAKES = ("os.mkdir", "os.rename", "os.link", "os.symlink", "os.truncate", "sqlite3.connect")


def _note(event, arguments):
    if event in _MAKES:
        path = arguments[1] if event in ("os.rename", "os.link", "os.symlink") else arguments[0]
    elif event == "open" and arguments[2] & _WRITES:
        path = arguments[0]
    else:
        return
    # A number is a file that was open before.
    if not isinstance(path, int):
        os.write(2, f"{SIGN}{os.fsdecode(path)}\n".encode())


# A test imports this for its sign, and must not be watched.
if __name__ == "sitecustomize":
    sys.addaudithook(_note)
