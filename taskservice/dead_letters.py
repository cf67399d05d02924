"""How many dead letters the broker keeps.

Must not know why a message became one: the worker's reaper puts them there.
"""

from __future__ import annotations

from typing import Any

from amqp.exceptions import NotFound
from celery import Celery

from celery_config import BROKER_ERRORS, DEAD_LETTER
from taskservice.errors import Unavailable


class DeadLetters:
    """Asks over a connection of its own each time, so that it may be called from any thread."""

    def __init__(self, celery_app: Celery) -> None:
        self._app = celery_app

    def count(self) -> int | None:
        """None: the embedded broker keeps none. Raises Unavailable."""
        try:
            with self._app.connection_for_read(transport_options={"read_timeout": 3, "write_timeout": 3}) as connection:
                if connection.transport.driver_type != "amqp":
                    return None
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=3)
                channel: Any = connection.channel()
                return int(channel.queue_declare(DEAD_LETTER, passive=True).message_count)
        except NotFound:  # nobody has declared the topology yet
            return 0
        except BROKER_ERRORS as error:
            raise Unavailable("broker") from error
