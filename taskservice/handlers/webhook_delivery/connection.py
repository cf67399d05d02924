"""One POST to one checked address: the connection goes to that address, the certificate must be the name's.

Must not know what the body says, nor what an answer means.
"""

from __future__ import annotations

import io
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPConnection, HTTPException
from typing import Any

from taskservice.handlers.webhook_delivery.addresses import Resolve, Target, refuse_unless_public, resolve_host

TIMEOUT_S = 10.0  # from the first connection to the answer's headers, whatever the receiver does meanwhile
MAX_ANSWER_BYTES = 4096  # read and dropped, so that the receiver can finish writing


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
        addresses = self._resolved(target)
        connection = _PinnedConnection(
            target, addresses, tls=self.tls if target.is_encrypted else None, ends_at=time.monotonic() + self.timeout_s
        )
        try:
            connection.request("POST", target.path, body.encode(), {"Host": target.host_header, **headers})
            answer = connection.getresponse()
            status = answer.status
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

    def _resolved(self, target: Target) -> list[str]:
        """Asked for each attempt anew: an answer that was checked an hour ago proves nothing."""
        try:
            addresses = list(self.resolve(target.host, target.port))
        except OSError as error:
            raise Unreachable("the receiver's host name cannot be resolved") from error
        if not addresses:
            raise Unreachable("the receiver's host name has no address")
        if not self.allow_private:
            refuse_unless_public(addresses)
        return addresses


class _PinnedConnection(HTTPConnection):
    """Connects to the first of the checked addresses that accepts, and never resolves a name itself."""

    def __init__(self, target: Target, addresses: Sequence[str], *, tls: ssl.SSLContext | None, ends_at: float) -> None:
        super().__init__(target.host, target.port)
        self._addresses = addresses
        self._tls = tls
        self._ends_at = ends_at

    def connect(self) -> None:
        plain = self._connected()
        try:
            plain.settimeout(_left_s(self._ends_at))
            secured = self._tls.wrap_socket(plain, server_hostname=self.host) if self._tls else plain
        except BaseException:
            plain.close()
            raise
        self.sock: Any = _BoundedSocket(secured, self._ends_at)

    def _connected(self) -> socket.socket:
        failure: OSError = OSError("no address")
        for untried, address in zip(range(len(self._addresses), 0, -1), self._addresses, strict=True):
            try:
                timeout_s = _left_s(self._ends_at) / untried  # one that is silent leaves time for the others
                return socket.create_connection((address, self.port), timeout=timeout_s)
            except OSError as error:
                failure = error
        raise failure


class _BoundedSocket:
    """What http.client needs of a socket, with one moment at which everything ends.

    A socket's own time-out starts again with each byte, so a receiver that drips could hold a worker for hours.
    """

    def __init__(self, sock: socket.socket, ends_at: float) -> None:
        self._sock = sock
        self._ends_at = ends_at

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(_left_s(self._ends_at))
        self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_BoundedReader(self._sock, self._ends_at))

    def close(self) -> None:
        self._sock.close()


class _BoundedReader(io.RawIOBase):
    def __init__(self, sock: socket.socket, ends_at: float) -> None:
        self._sock = sock
        self._ends_at = ends_at

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(_left_s(self._ends_at))
        return self._sock.recv_into(buffer)


def _left_s(ends_at: float) -> float:
    """Raises TimeoutError when nothing is left: a socket would take 0 for `do not wait`."""
    left_s = ends_at - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _drop(answer: Any) -> None:
    """The status is known; what goes wrong with the rest does not change it."""
    try:
        answer.read(MAX_ANSWER_BYTES)
    except (OSError, HTTPException):
        return


def _reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return error.reason or type(error).__name__
