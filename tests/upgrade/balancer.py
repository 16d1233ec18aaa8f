"""A TCP balancer as small as can be: it hands whole connections on and takes none back."""

from __future__ import annotations

import itertools
import socket
import threading
from collections import Counter
from contextlib import suppress

CHUNK_BYTES = 65_536


class Balancer:
    """Listens on a free port and hands connections to `ports` in turn.

    Whoever takes a port out waits with `busy` until the last connection to it has ended. That is how any balancer
    drains a machine.
    """

    def __init__(self) -> None:
        self.ports: list[int] = []
        self._turn = itertools.count()
        self._busy = Counter[int]()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def busy(self, port: int) -> int:
        """How many connections to this port are open."""
        with self._lock:
            return self._busy[port]

    def add(self, port: int) -> None:
        with self._lock:
            self.ports = [*self.ports, port]

    def remove(self, port: int) -> None:
        with self._lock:
            self.ports = [other for other in self.ports if other != port]

    def close(self) -> None:
        # Without this the thread would sit in accept() for ever.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                port = self.ports[next(self._turn) % len(self.ports)]
                self._busy[port] += 1
            threading.Thread(target=self._carry, args=(client, port), daemon=True).start()

    def _carry(self, client: socket.socket, port: int) -> None:
        try:
            with client, socket.create_connection(("127.0.0.1", port)) as server:
                back = threading.Thread(target=_copy, args=(server, client), daemon=True)
                back.start()
                _copy(client, server)
                back.join()
        except OSError:
            # The visitor sees the connection end, and the test counts it as lost.
            client.close()
        finally:
            with self._lock:
                self._busy[port] -= 1


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(CHUNK_BYTES):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
