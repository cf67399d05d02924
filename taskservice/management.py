"""What only RabbitMQ's management API tells: how many messages of a queue workers have in hand.

Optional: without it, or while it is away, nothing is known and nothing else waits for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from urllib.parse import quote, unquote, urlsplit

import requests

logger = logging.getLogger(__name__)

CONNECT_S = 0.5
ANSWER_S = 0.5
REMEMBERED_S = 2.0  # the broker itself counts every five seconds

_Counts = Mapping[str, int]


class Management:
    """Safe to share between threads; one of them asks, the others read what was answered last."""

    def __init__(self, url: str | None, *, virtual_host: str = "/") -> None:
        """`url`: http://user:password@host:port, or None."""
        self._url, self._login = _without_login(url) if url else ("", None)
        self._path = f"/api/queues/{quote(virtual_host, safe='')}"
        self._asking = threading.Lock()
        self._ask_again_at = 0.0
        self._counts: _Counts = {}

    def unacknowledged(self) -> _Counts:
        """By name of queue, up to 2 s old; empty when it is not known. Takes a second at most."""
        if self._url and time.monotonic() >= self._ask_again_at and self._asking.acquire(blocking=False):
            try:
                self._counts = self._ask()
                self._ask_again_at = time.monotonic() + REMEMBERED_S
            finally:
                self._asking.release()
        return self._counts

    def _ask(self) -> _Counts:
        try:
            answer = requests.get(
                f"{self._url}{self._path}",
                params={"columns": "name,messages_unacknowledged"},
                auth=self._login,
                timeout=(CONNECT_S, ANSWER_S),
                allow_redirects=False,
            )
            answer.raise_for_status()
            return {str(one["name"]): int(one["messages_unacknowledged"]) for one in answer.json() if len(one) > 1}
        except (requests.RequestException, ValueError, TypeError, KeyError) as error:
            logger.warning("management.no_answer cause=%s", type(error).__name__)
            return {}


def _without_login(url: str) -> tuple[str, tuple[str, str] | None]:
    """A login in a URL would be in every complaint about it."""
    parts = urlsplit(url)
    login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return bare.rstrip("/").removesuffix("/api"), login
