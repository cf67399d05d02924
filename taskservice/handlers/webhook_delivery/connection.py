"""One POST to one checked address: the connection goes to that address, the certificate must be the name's.

Must not know what the body says, nor what an answer means.
"""

from __future__ import annotations

import io
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any

from taskservice.handlers.webhook_delivery.addresses import Resolve, Target, refuse_unless_public, resolve_host
from taskservice.handlers.webhook_delivery.lookup import look_up

TIMEOUT_S = 15.0  # from the look-up of the name to the answer, whatever name server and receiver do meanwhile
BODY_PATIENCE_S = 2.0  # of those, once the answer's status is known
MAX_ANSWER_BYTES = 65_536  # read, headers included, so that the receiver can finish writing; dropped


@cache  # reading all the system's certificates for each webhook would cost more than sending it
def _system_trust() -> ssl.SSLContext:
    return ssl.create_default_context()


class Unreachable(Exception):
    """There was no answer; the message says how far it came."""


@dataclass(frozen=True, slots=True)
class Sender:
    """How webhooks leave; a test brings its own resolver and certificates."""

    allow_private: bool = False  # loopback and private addresses too
    resolve: Resolve = resolve_host
    tls: ssl.SSLContext = field(default_factory=_system_trust)
    timeout_s: float = TIMEOUT_S

    def post(self, target: Target, body: str, headers: Mapping[str, str]) -> int:
        """The answer's status code; redirects are not followed. Raises Unreachable, ForbiddenTarget."""
        end = _End(time.monotonic() + self.timeout_s)
        connection = _PinnedConnection(
            target, self._resolved(target, end), tls=self.tls if target.is_encrypted else None, end=end
        )
        try:
            connection.request("POST", target.path, body.encode(), {"Host": target.host_header, **headers})
            answer = connection.getresponse()
            status = answer.status
            end.bring_forward(BODY_PATIENCE_S)
            _drop(answer)
        except TimeoutError as error:
            raise Unreachable(f"the receiver did not answer within {self.timeout_s:g} s") from error
        except ssl.SSLError as error:
            raise Unreachable(f"no trusted TLS connection to the receiver ({_reason(error)})") from error
        except (OSError, HTTPException) as error:
            raise Unreachable(f"no answer from the receiver ({type(error).__name__})") from error
        finally:
            connection.close()
        return status

    def _resolved(self, target: Target, end: _End) -> list[str]:
        """Asked for each attempt anew: an answer that was checked an hour ago proves nothing."""
        try:
            addresses = look_up(self.resolve, target.host, target.port, timeout_s=end.left_s())
        except TimeoutError as error:
            raise Unreachable(f"the receiver's host name was not resolved within {self.timeout_s:g} s") from error
        except OSError as error:
            raise Unreachable("the receiver's host name cannot be resolved") from error
        if not addresses:
            raise Unreachable("the receiver's host name has no address")
        if not self.allow_private:
            refuse_unless_public(addresses)
        return addresses


class _End:
    """The one moment at which everything ends."""

    def __init__(self, at: float) -> None:
        self._at = at

    def left_s(self) -> float:
        """Raises TimeoutError when nothing is left: a socket would take 0 for `do not wait`."""
        left_s = self._at - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        return left_s

    def bring_forward(self, patience_s: float) -> None:
        self._at = min(self._at, time.monotonic() + patience_s)


class _PinnedConnection(HTTPConnection):
    """Connects to the first of the checked addresses that accepts, and never resolves a name itself."""

    def __init__(self, target: Target, addresses: Sequence[str], *, tls: ssl.SSLContext | None, end: _End) -> None:
        super().__init__(target.host, target.port)
        self._addresses = addresses
        self._tls = tls
        self._end = end

    def connect(self) -> None:
        with ExitStack() as unless_secured:
            plain = unless_secured.enter_context(self._connected())
            plain.settimeout(self._end.left_s())  # the handshake counts it as a whole
            secured = self._tls.wrap_socket(plain, server_hostname=self.host) if self._tls else plain
            unless_secured.pop_all()
        self.sock: Any = _BoundedSocket(secured, self._end)

    def _connected(self) -> socket.socket:
        failure: OSError = OSError("no address")
        for untried, address in zip(range(len(self._addresses), 0, -1), self._addresses, strict=True):
            try:
                timeout_s = self._end.left_s() / untried  # one that is silent leaves time for the others
                return socket.create_connection((address, self.port), timeout=timeout_s)
            except OSError as error:
                failure = error
        raise failure


class _BoundedSocket:
    """What http.client needs of a socket, with one end for all of it.

    A socket's own time-out starts again with each byte, so a receiver that drips could hold a worker for hours.
    """

    def __init__(self, sock: socket.socket, end: _End) -> None:
        self._sock = sock
        self._end = end

    def sendall(self, data: bytes) -> None:
        unsent = memoryview(data)
        while unsent:
            self._sock.settimeout(self._end.left_s())
            unsent = unsent[self._sock.send(unsent) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_BoundedReader(self._sock, self._end))

    def close(self) -> None:
        self._sock.close()


class _BoundedReader(io.RawIOBase):
    """What is beyond MAX_ANSWER_BYTES counts as not sent: headers without end would fill the memory."""

    def __init__(self, sock: socket.socket, end: _End) -> None:
        self._sock = sock
        self._end = end
        self._left_bytes = MAX_ANSWER_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left_bytes:
            return 0
        self._sock.settimeout(self._end.left_s())
        count = self._sock.recv_into(memoryview(buffer)[: self._left_bytes])
        self._left_bytes -= count
        return count


def _drop(answer: HTTPResponse) -> None:
    """The status is known; what goes wrong with the rest does not change it."""
    try:
        answer.read(MAX_ANSWER_BYTES)
    except (OSError, HTTPException):
        return


def _reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return error.reason or type(error).__name__
