"""The load: one process, a few keep-alive connections, no HTTP library, so that the servers get the CPU.

Reads jobs as JSON from standard input and writes their answers as JSON to standard output. Several jobs take turns in
slices: whatever slows the machine then slows all of them.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

RECEIVE_BYTES = 262_144
# A server that says nothing for so long has lost the request.
SILENCE_SECONDS = 30
# A job that takes so many times as long as it was given gets no further turn once it has an answer.
PATIENCE = 3


@dataclass
class Connection:
    socket: socket.socket
    sent_at: float = 0.0
    wanted: int = 0  # bytes of the whole answer, 0 until its head is here
    received: bytearray = field(default_factory=bytearray)


def requests_of(job: dict) -> Iterator[bytes]:
    """The requests to send, as raw bytes.

    A `template` is numbered: %(number)s, and %(ip)s in a network of its own, so that no budget is shared.
    A `file` holds one path a line, with a body after a tab, each used once.
    """
    if "file" in job:
        lines = Path(job["file"]).read_text().splitlines()
        for line in lines[job["first"] : job["first"] + job["count"]]:
            path, _, body = line.partition("\t")
            yield (job["template"] % {"path": path, "body": body, "length": len(body)}).encode()
        return
    template, number = job["template"], job["first"]
    while not job["count"] or number < job["first"] + job["count"]:
        ip = f"{20 + (number >> 16) % 80}.{number >> 8 & 255}.{number & 255}.7"
        yield (template % {"number": f"{number:09d}", "ip": ip}).encode()
        number += 1


class Load:
    def __init__(self, job: dict) -> None:
        self.job = job
        self.seconds = self.cpu_seconds = 0.0
        self.address = (job["host"], job["port"])
        self.requests = requests_of(job)
        self.statuses: Counter[str] = Counter()
        self.milliseconds: list[float] = []
        self.poll = select.epoll()
        self.open: dict[int, Connection] = {}
        self.deadline = 0.0

    def slice(self, slices: int) -> None:
        """One of so many parts of the job: every connection sends one request after the other."""
        started, cpu = time.perf_counter(), time.process_time()
        self.deadline = started + self.job["seconds"] / slices
        # Rounded up, so that a job of one request is done in its first slice.
        self.left = -(-self.job["count"] // slices) if self.job["count"] else sys.maxsize
        for _ in range(self.job["connections"]):
            self.connect()
        while self.open:
            ready = self.poll.poll(SILENCE_SECONDS)
            if not ready:
                self.statuses["silence"] += len(self.open)
                break
            for descriptor, _ in ready:
                self.readable(self.open[descriptor])
        self.seconds += time.perf_counter() - started
        self.cpu_seconds += time.process_time() - cpu

    def answer(self) -> dict:
        return {
            "seconds": self.seconds,
            "statuses": self.statuses,
            "milliseconds": self.milliseconds,
            "cpu_seconds": self.cpu_seconds,
        }

    def connect(self) -> None:
        connection = Connection(socket.create_connection(self.address))
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.open[connection.socket.fileno()] = connection
        self.poll.register(connection.socket.fileno(), select.EPOLLIN)
        self.send(connection)

    def close(self, connection: Connection) -> None:
        descriptor = connection.socket.fileno()
        self.poll.unregister(descriptor)
        del self.open[descriptor]
        connection.socket.close()

    def send(self, connection: Connection) -> None:
        in_time = self.left > 0 and time.perf_counter() < self.deadline
        request = next(self.requests, None) if in_time else None
        self.left -= 1
        if request is None:
            self.close(connection)
            return
        connection.received.clear()
        connection.wanted = 0
        connection.sent_at = time.perf_counter()
        try:
            connection.socket.sendall(request)
        except OSError:
            self.lost(connection)

    def lost(self, connection: Connection) -> None:
        self.statuses["lost"] += 1
        self.close(connection)
        if time.perf_counter() < self.deadline:
            self.connect()

    def readable(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(RECEIVE_BYTES)
        except OSError:
            data = b""
        if not data:
            self.lost(connection)
            return
        connection.received += data
        received = connection.received
        if not connection.wanted:
            end = received.find(b"\r\n\r\n")
            if end < 0:
                return
            connection.wanted = end + 4 + body_length(bytes(received[: end + 2]).lower())
        if len(received) >= connection.wanted:
            self.milliseconds.append((time.perf_counter() - connection.sent_at) * 1000)
            self.statuses[received[9:12].decode()] += 1
            if b"\r\nConnection: close\r\n" in received:
                self.close(connection)
                if time.perf_counter() < self.deadline:
                    self.connect()
                return
            self.send(connection)


def body_length(head: bytes) -> int:
    _, found, rest = head.partition(b"\r\ncontent-length:")
    if not found:
        raise ValueError("the load needs answers with a length")
    return int(rest.partition(b"\r\n")[0])


def main() -> None:
    order = json.load(sys.stdin)
    loads = [Load(job) for job in order["jobs"]]
    for _ in range(order["slices"]):
        for load in loads:
            if load.seconds < PATIENCE * load.job["seconds"] or not load.milliseconds:
                load.slice(order["slices"])
    json.dump([load.answer() for load in loads], sys.stdout)


if __name__ == "__main__":
    main()
