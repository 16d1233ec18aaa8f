"""A mail server that accepts everything and keeps nothing but a count: the least that SMTP allows.

It prints its port. `HELP` answers how many mails it took, when the last came, and when the first since the last `EXPN`.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from smtplib import SMTP

from tests.support.servers import ROOT

# A sink that says nothing for so long is gone.
CONTROL_SECONDS = 10
REPLIES = {
    b"EHLO": b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 10000000\r\n",
    b"HELO": b"250 sink\r\n",
    b"MAIL": b"250 2.1.0 Ok\r\n",
    b"RCPT": b"250 2.1.5 Ok\r\n",
    b"DATA": b"354 End data with <CR><LF>.<CR><LF>\r\n",
    b"RSET": b"250 2.0.0 Ok\r\n",
    b"NOOP": b"250 2.0.0 Ok\r\n",
    b"QUIT": b"221 2.0.0 Bye\r\n",
}


@dataclass
class Taken:
    count: int = 0
    first: float = 0.0
    last: float = 0.0


taken = Taken()


class Dialogue(asyncio.Protocol):
    """One connection; several commands may come in one packet."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.waiting = b""
        self.in_data = False
        self.over = False
        transport.write(b"220 sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        self.replies: list[bytes] = []
        self.read()
        self.transport.write(b"".join(self.replies))
        if self.over:
            self.transport.close()

    def read(self) -> None:
        """All that has come is answered."""
        while self.in_data or b"\r\n" in self.waiting:
            if self.in_data:
                end = self.waiting.find(b"\r\n.\r\n")
                if end < 0:
                    return
                self.waiting = self.waiting[end + 5 :]
                self.in_data = False
                taken.count += 1
                taken.last = time.time()
                taken.first = taken.first or taken.last
                self.replies.append(b"250 2.0.0 Ok: queued\r\n")
                continue
            line, self.waiting = self.waiting.split(b"\r\n", 1)
            self.command(line[:4].upper())

    def command(self, verb: bytes) -> None:
        self.over = verb == b"QUIT"
        if verb == b"HELP":
            self.replies.append(f"214 {taken.count} {taken.first} {taken.last}\r\n".encode())
            return
        if verb == b"EXPN":
            taken.first = 0.0
            self.replies.append(b"250 2.0.0 Ok\r\n")
            return
        self.replies.append(REPLIES.get(verb, b"502 5.5.1 Unknown\r\n"))
        self.in_data = verb == b"DATA"


@dataclass
class Sink:
    """The running mail server, seen from outside."""

    port: int
    pid: int
    control: SMTP

    def taken(self) -> Taken:
        """How many mails came so far."""
        _, text = self.control.docmd("HELP")
        count, first, last = text.split()
        return Taken(int(count), float(first), float(last))

    def restart(self) -> None:
        """The next mail is the first."""
        self.control.docmd("EXPN")


@contextmanager
def running_sink() -> Iterator[Sink]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.sink"], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    with process:
        try:
            port = int(process.stdout.readline())
            with SMTP("127.0.0.1", port, timeout=CONTROL_SECONDS) as control:
                yield Sink(port, process.pid, control)
        finally:
            process.terminate()


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Dialogue, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
