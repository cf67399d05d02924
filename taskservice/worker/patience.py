"""Waiting in a child for Redis or the broker, as long as it takes: no task is dropped because one of them is away.

Must not know what is waited for. The main process never waits.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import redis

from celery_config import BROKER_ERRORS

logger = logging.getLogger(__name__)

RETRY_S = 1.0

Answer = TypeVar("Answer")


def insist(call: Callable[[], Answer], what: str, task_id: str) -> Answer:
    """Repeat the call every second until neither Redis nor the broker fails it."""
    while True:
        try:
            return call()
        except (redis.RedisError, *BROKER_ERRORS) as error:
            logger.warning("task.%s_waits task_id=%s cause=%s", what, task_id, type(error).__name__)
            time.sleep(RETRY_S)
