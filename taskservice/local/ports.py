"""Choose TCP ports on 127.0.0.1: the usual one if nobody has it, else a free one.

Knows nothing of who will listen there.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Below Linux's ephemeral range, so that no outgoing connection takes a port between choosing and listening.
_PRIVATE_RANGE = range(20_000, 32_000)
_handed_out: set[int] = set()


@contextmanager
def starting_alone() -> Iterator[None]:
    """Held from choosing the standard ports until they are listened on: of two starts at once, one waits."""
    with (Path(tempfile.gettempdir()) / f"taskservice-start-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def choose_port(usual: int | None = None) -> int:
    """`usual` if it is free, else (or when None) a free one. Never the same one twice in this process."""
    if usual is not None and usual not in _handed_out and _is_free(usual):
        return _hand_out(usual)
    while True:
        candidate = random.choice(_PRIVATE_RANGE)  # noqa: S311 - not a secret
        if candidate not in _handed_out and _is_free(candidate):
            return _hand_out(candidate)


def _hand_out(port: int) -> int:
    _handed_out.add(port)
    return port


def _is_free(port: int) -> bool:
    """Free on the loopback and on all addresses: another's listener on either would take our clients."""
    for address in ("127.0.0.1", "0.0.0.0"):  # noqa: S104 - bound for a moment, never listened on
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT are no obstacle
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True
