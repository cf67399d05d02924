"""The threads of a worker's main process: each takes its turn again and again, whatever a turn ends in.

The only border beside a task's own where everything is caught. Must not know what a turn is for.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from typing import ClassVar, Protocol

import redis
from celery import Celery
from kombu import Connection, Producer

from celery_config import BROKER_ERRORS, declare_topology
from taskservice.errors import Unavailable
from taskservice.model import Submission
from taskservice.publisher import send_submission

logger = logging.getLogger(__name__)

CONNECT_S = 5
TIMEOUTS = {"read_timeout": 10, "write_timeout": 10}  # of whatever has none of its own: a broker that is silent is away
CONFIRM_TIMEOUT_S = 10


class Publish(Protocol):
    """Returns when the message is confirmed; raises BROKER_ERRORS, also when no queue takes it."""

    def __call__(self, submission: Submission, *, attempt: int = 1) -> None: ...


class EndlessThread(threading.Thread, ABC):
    """Takes a turn, then the next, for as long as the process lives. What its turns end in is logged by its name."""

    every_s: ClassVar[float]  # from the beginning of a turn to the next, unless it takes longer

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)

    @abstractmethod
    def turn(self) -> None:
        """May raise anything: the next turn begins anew."""

    def run(self) -> None:
        while True:
            began = time.monotonic()
            self._take_turn()
            time.sleep(max(0.0, self.every_s - (time.monotonic() - began)))

    def _take_turn(self) -> None:
        try:
            self.turn()
        except (redis.RedisError, Unavailable) as error:
            logger.warning("%s.store_unreachable cause=%s", self.name, type(error).__name__)
        except Exception:  # without it what the thread does would end silently
            logger.exception("%s.failed", self.name)


class BrokerThread(EndlessThread):
    """A turn is a broker connection of its own; the next one begins when that has failed, or is not used any more."""

    every_s = 3.0

    def __init__(self, name: str, app: Celery) -> None:
        super().__init__(name)
        self._app = app

    @abstractmethod
    def use(self, connection: Connection) -> None:
        """The connection is open, and closed afterwards. May raise anything, usually BROKER_ERRORS."""

    def turn(self) -> None:
        try:
            with self._app.connection_for_write(heartbeat=0, transport_options=TIMEOUTS) as connection:
                connection.ensure_connection(max_retries=1, timeout=CONNECT_S)
                self.use(connection)
        except BROKER_ERRORS as error:
            logger.info("%s.reconnects cause=%s", self.name, type(error).__name__)

    def open_producer(self, connection: Connection) -> Producer:
        """On a channel of its own, once the topology is declared."""
        declare_topology(connection, self._app.conf.task_queues)
        return Producer(connection.channel(), auto_declare=False)

    def open_publish(self, connection: Connection) -> Publish:
        """Publishes submissions on a channel of its own, once the topology is declared."""
        producer = self.open_producer(connection)
        is_amqp = connection.transport.driver_type == "amqp"

        def publish(submission: Submission, *, attempt: int = 1) -> None:
            options = {"mandatory": is_amqp, "confirm_timeout": CONFIRM_TIMEOUT_S}
            send_submission(self._app, submission, attempt=attempt, producer=producer, **options)

        return publish
