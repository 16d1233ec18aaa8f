"""A webhook receiver that answers 204 to everything and keeps nothing but a count: the least that HTTP allows.

It prints its port. `GET /` answers how many POSTs it took, and when the first and the last of them came.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from bench.sink import Taken
from tests.support.servers import ROOT

ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
taken = Taken()


class Exchange(asyncio.Protocol):
    """One keep-alive connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.waiting = b""

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while (end := self.waiting.find(b"\r\n\r\n")) >= 0:
            head = self.waiting[: end + 2].lower()
            length = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0] or 0)
            if len(self.waiting) < end + 4 + length:
                return
            self.waiting = self.waiting[end + 4 + length :]
            self.answer(head)

    def answer(self, head: bytes) -> None:
        if head.startswith(b"get"):
            body = json.dumps(asdict(taken)).encode()
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            taken.first = 0.0
            return
        taken.count += 1
        taken.last = time.time()
        taken.first = taken.first or taken.last
        self.transport.write(ANSWER)


@dataclass
class Receiver:
    """The running receiver, seen from outside."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/crm"

    def taken(self) -> Taken:
        """How many POSTs came so far; `first` is the first since the last question."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", "/")
        answer = Taken(**json.loads(connection.getresponse().read()))
        connection.close()
        return answer


@contextmanager
def running_receiver() -> Iterator[Receiver]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.receiver"], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    with process:
        try:
            yield Receiver(int(process.stdout.readline()))
        finally:
            process.terminate()


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Exchange, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
