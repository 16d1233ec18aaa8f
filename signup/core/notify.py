"""Telling the process that started us that we work: systemd's notify protocol, which bin/run listens to as well."""

from __future__ import annotations

import os
import socket


def notify_ready() -> None:
    """Whoever started this process and wants to know, knows that it does its work from now on.

    Rule: sd_notify(3): one datagram to the socket named by NOTIFY_SOCKET; a leading "@" is the abstract namespace.
    """
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"READY=1", "\0" + path[1:] if path.startswith("@") else path)
