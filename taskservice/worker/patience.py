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
FAULT_TRIES = 3  # somebody may have ended the script by hand

_ABSENT = ("BUSY", "MISCONF", "NOREPLICAS", "UNKILLABLE")  # redis-py has classes for OOM and others, none for these

Answer = TypeVar("Answer")


def insist(call: Callable[[], Answer], what: str, task_id: str) -> Answer:
    """Repeat the call every second until neither Redis nor the broker fails it.

    Raises redis.RedisError when it is the call's own fault, FAULT_TRIES times.
    """
    faults = 0
    while True:
        try:
            return call()
        except (redis.RedisError, *BROKER_ERRORS) as error:
            faults += is_own_fault(error)
            if faults == FAULT_TRIES:
                raise
            logger.warning("task.%s_waits task_id=%s cause=%s", what, task_id, type(error).__name__)
            time.sleep(RETRY_S)


def is_own_fault(error: BaseException) -> bool:
    """Whether the store's script failed on what it was given, or on what it found: it would for ever.

    Anything else is a store that is away, full, read-only, loading or not set up, and is worth waiting for.
    """
    if isinstance(error, redis.DataError):  # arguments that cannot be sent
        return True
    text = str(error)
    return type(error) is redis.ResponseError and "user_script" in text and not text.startswith(_ABSENT)
