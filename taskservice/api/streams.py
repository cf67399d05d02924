"""A request's body while it arrives: it ends where it ends, and who sends it must keep a pace.

Must not know what the body is, nor how much of it is accepted.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from flask import Flask, request
from gevent import Timeout
from werkzeug.exceptions import BadRequest, RequestTimeout
from werkzeug.wsgi import get_input_stream

GRACE_S = 10.0  # from the first read; then the pace counts
MIN_BYTES_PER_S = 32 * 2**10
MAX_DRAIN_BYTES = 16 * 2**20
MAX_DRAIN_S = 5.0


class BodyTooSlow(RequestTimeout):
    """The client sends less than it must."""

    error = "body_too_slow"


class _DrainedLongEnough(Exception):
    """The rest will not be waited for."""


class PacedStream(io.RawIOBase):
    """A body that takes `GRACE_S`, and a second more for every `MIN_BYTES_PER_S` received, at most."""

    def __init__(self, stream: IO[bytes], *, is_interruptible: bool) -> None:
        """`is_interruptible`: gevent can end a read from outside; where threads serve, nobody can."""
        self._stream = stream
        self._is_interruptible = is_interruptible
        self._began_at: float | None = None
        self._received_bytes = 0
        self._is_given_up = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Raises BodyTooSlow."""
        now = time.monotonic()
        self._began_at = self._began_at or now
        left_s = self._began_at + GRACE_S + self._received_bytes / MIN_BYTES_PER_S - now
        with self._interrupted_after(left_s, BodyTooSlow("The body arrives too slowly.")):
            piece = self._stream.read(len(buffer))
        self._received_bytes += len(piece)
        buffer[: len(piece)] = piece
        return len(piece)

    def drain(self) -> None:
        """Read and forget what the client still sends, up to 16 MiB or 5 s.

        A server that answers and closes while the client writes makes the kernel reset the connection, and the answer
        is lost with it.
        """
        if self._is_given_up:
            return
        left_bytes = MAX_DRAIN_BYTES
        try:
            with self._interrupted_after(MAX_DRAIN_S, _DrainedLongEnough()):
                while left_bytes > 0 and (piece := self._stream.read(min(left_bytes, 2**16))):
                    left_bytes -= len(piece)
        except (_DrainedLongEnough, OSError, ValueError, BadRequest):  # or it went away, or broke its framing
            return

    @contextmanager
    def _interrupted_after(self, left_s: float, error: Exception) -> Iterator[None]:
        """Raises the error; gunicorn sees it pass through its own stream, and closes the connection in the end."""
        if not self._is_interruptible:
            yield
            return
        try:
            with Timeout(max(0.0, left_s), error):
                yield
        except type(error):
            self._is_given_up = True
            raise


def pace_bodies(app: Flask) -> None:
    """Register it first: whatever is answered later may have to drain the body."""
    app.before_request(_pace)


def drain(environ: dict[str, Any]) -> None:
    """What is left of the request's body; see `PacedStream.drain`."""
    stream = environ.get("wsgi.input")
    if isinstance(stream, PacedStream):
        stream.drain()


def _pace() -> None:
    """Also makes the stream end where the body ends, whoever serves."""
    environ = request.environ
    environ["wsgi.input"] = PacedStream(get_input_stream(environ), is_interruptible="gunicorn.socket" in environ)
    environ["wsgi.input_terminated"] = True
