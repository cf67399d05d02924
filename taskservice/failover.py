"""Connections to a broker of several nodes: a new one begins where the last one of this process succeeded.

kombu's own always begins at the first of the list, and would wait for it each time while that node is dead.
"""

from __future__ import annotations

from typing import Any, ClassVar

from celery.app.amqp import AMQP
from kombu import Connection


class FailoverConnection(Connection):
    """kombu's connection; which URL comes first is a fact of the process, shared by all that name the same nodes."""

    _begin_at: ClassVar[dict[frozenset[str], str]] = {}
    _url: str | None = None  # one of several, the one that is tried or in use

    def __init__(self, hostname: Any = "localhost", *args: Any, **kwargs: Any) -> None:
        urls = list(kwargs.get("alternates") or (hostname.split(";") if isinstance(hostname, str) else hostname or ()))
        if len(urls) < 2:
            super().__init__(hostname, *args, **kwargs)
            return
        kwargs["alternates"] = None
        self._nodes = frozenset(urls)
        first = urls.index(self._begin_at.get(self._nodes, urls[0]))
        urls = urls[first:] + urls[:first]
        self._url = urls[0]
        super().__init__(";".join(urls), *args, **kwargs)

    def switch(self, conn_str: str) -> None:
        super().switch(conn_str)
        self._url = conn_str

    def _ensure_connection(self, errback: Any = None, max_retries: int | None = None, *args: Any, **kwargs: Any) -> Any:
        """Each node once more for each retry that was asked for."""
        if max_retries is not None and self.alt:
            max_retries = (max_retries + 1) * len(self.alt) - 1
        return super()._ensure_connection(errback, max_retries, *args, **kwargs)

    def _establish_connection(self) -> Any:
        if self._url is None:
            return super()._establish_connection()
        begin_at = self._after(self._url)
        try:
            established = super()._establish_connection()
            begin_at = self._url
        finally:
            self._begin_at[self._nodes] = begin_at
        return established

    def avoid(self) -> None:
        """Begin elsewhere next time: it is connected, and yet of no use."""
        if self._url is not None and self._begin_at.get(self._nodes) == self._url:
            self._begin_at[self._nodes] = self._after(self._url)

    def _after(self, url: str) -> str:
        return str(self.alt[(self.alt.index(url) + 1) % len(self.alt)])


class FailoverAMQP(AMQP):
    """So that everything that Celery connects, connects so."""

    Connection = FailoverConnection
