"""The client's end of a connection that stays open: whether it is still there, and whether it takes what it is sent.

Must not know what is sent.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

from flask import request

HEARTBEAT_S = 15.0  # so often something is sent, so often a client that has left is noticed
SEND_S = 10.0  # a client that takes nothing for so long is dropped


@dataclass(frozen=True, slots=True)
class Peer:
    """The client's end of the connection, where the server shows it."""

    connection: Any = None  # gunicorn's socket, of gevent or of the standard library

    @classmethod
    def of_request(cls) -> Peer:
        return cls(request.environ.get("gunicorn.socket"))

    def hold(self) -> None:
        """From now on a write fails when the client takes nothing for SEND_S, or has vanished without a word."""
        if self.connection is None:
            return
        self.connection.settimeout(SEND_S)
        if hasattr(socket, "TCP_USER_TIMEOUT") and self.connection.family != socket.AF_UNIX:
            timeout_ms = int(1000 * (HEARTBEAT_S + SEND_S))
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)

    def release(self) -> None:
        """As the server had it, for the connection's next request."""
        if self.connection is not None:
            self.connection.settimeout(None)

    def has_left(self) -> bool:
        """A write would not tell: the first one after the client has closed still succeeds."""
        if self.connection is None:
            return False
        self.connection.settimeout(0)
        try:
            return bool(self.connection.recv(1, socket.MSG_PEEK) == b"")
        except (BlockingIOError, ValueError):  # nothing to read; TLS cannot peek
            return False
        except OSError:
            return True
        finally:
            self.connection.settimeout(SEND_S)
