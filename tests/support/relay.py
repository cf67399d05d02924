"""A TCP relay in front of a broker on this machine, that can be cut off or fall silent as a node does.

Must not know the protocol.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CHUNK_BYTES = 65_536


class Relay:
    """Passes on what arrives at `port`, until it is told otherwise."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.accepted = 0
        self._ends: list[socket.socket] = []
        self._passes_on = threading.Event()
        self._passes_on.set()
        self._start()

    def cut(self) -> None:
        """As when a node's process is killed: connections break, new ones are refused."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def restore(self) -> None:
        """After `cut`, on the same port."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._start()

    def silence(self) -> None:
        """As when a node's machine is gone: connections stay and nobody answers."""
        self._passes_on.clear()

    def close(self) -> None:
        self._passes_on.set()
        self.cut()

    def _start(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            far = socket.create_connection(("127.0.0.1", self._target_port))
            self._ends += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError), source, sink:
            while chunk := source.recv(CHUNK_BYTES):
                self._passes_on.wait()
                sink.sendall(chunk)


@contextmanager
def relays(count: int, target_port: int) -> Iterator[list[Relay]]:
    opened = [Relay(target_port) for _ in range(count)]
    try:
        yield opened
    finally:
        for relay in opened:
            relay.close()
