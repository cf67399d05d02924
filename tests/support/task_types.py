"""Task types that only tests have: they wait, fail or die on demand. Workers load them through TASK_TYPE_MODULES.

Every execution is noted in the file that EXECUTION_LEDGER names, so that tests can count them without asking Redis.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel, ConfigDict

from taskservice.context import TaskContext
from taskservice.errors import PermanentError, TransientError
from taskservice.handlers import task_type

LEDGER_VARIABLE = "EXECUTION_LEDGER"


class SleepParameters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    seconds: float = 0.0
    fail_attempts: int = 0  # so many attempts fail before one succeeds
    permanent: bool = False
    kill_worker: bool = False  # by a signal, as the kernel does when memory runs out
    exit_worker: bool = False  # by os._exit, as a broken library does
    reports: int = 0  # so many progress reports while it waits
    stubborn: bool = False  # swallows whatever is raised to stop it
    result_bytes: int = 0  # so much more in the result
    mark: str = ""  # the client's own name for it, noted in the ledger


@task_type("sleep", parameters=SleepParameters, time_limit_s=20, example={"seconds": 0.1})
def sleep(parameters: SleepParameters, ctx: TaskContext) -> dict[str, Any]:
    """Wait, then succeed or fail as told."""
    with _noted(parameters.mark, ctx):
        return _sleep(parameters, ctx)


@task_type("short_sleep", parameters=SleepParameters, time_limit_s=3, example={"seconds": 0.1})
def short_sleep(parameters: SleepParameters, ctx: TaskContext) -> dict[str, Any]:
    """The same with a time limit that a test can wait for."""
    with _noted(parameters.mark, ctx):
        return _sleep(parameters, ctx)


@task_type("rated_sleep", parameters=SleepParameters, time_limit_s=20, example={"seconds": 0.1})
def rated_sleep(parameters: SleepParameters, ctx: TaskContext) -> dict[str, Any]:
    """The same, for RATE_LIMITS to name."""
    with _noted(parameters.mark, ctx):
        return _sleep(parameters, ctx)


def _sleep(parameters: SleepParameters, ctx: TaskContext) -> dict[str, Any]:
    if parameters.stubborn:
        _sleep_stubbornly(parameters.seconds)
    elif parameters.reports:
        _sleep_and_report(parameters, ctx)
    else:
        time.sleep(parameters.seconds)
    if parameters.kill_worker:
        os.kill(os.getpid(), signal.SIGKILL)
    if parameters.exit_worker:
        os._exit(3)
    if ctx.attempt <= parameters.fail_attempts:
        if parameters.permanent:
            raise PermanentError("file_not_found", "told to fail for good")
        raise TransientError("smtp_unavailable", "told to fail for now")
    result = {"attempt": ctx.attempt, "slept_s": parameters.seconds}
    return result | {"padding": "x" * parameters.result_bytes} if parameters.result_bytes else result


def _sleep_and_report(parameters: SleepParameters, ctx: TaskContext) -> None:
    for number in range(1, parameters.reports + 1):
        time.sleep(parameters.seconds / parameters.reports)
        ctx.progress(number, parameters.reports, "asleep")


def _sleep_stubbornly(seconds: float) -> None:
    ends_at = time.monotonic() + seconds
    while (left_s := ends_at - time.monotonic()) > 0:
        try:
            time.sleep(left_s)
        except Exception as error:  # noqa: BLE001  ignoring every wish to stop is this task's purpose
            print("ignored", type(error).__name__)


@contextmanager
def _noted(mark: str, ctx: TaskContext) -> Iterator[None]:
    """One line when an execution begins and one when it ends; an execution that is killed leaves only the first."""
    path = os.environ.get(LEDGER_VARIABLE)
    if not path:
        yield
        return
    execution = uuid.uuid4().hex
    where = {"host": socket.gethostname(), "pid": os.getpid()}
    what = {"mark": mark, "task_id": ctx.task_id, "attempt": ctx.attempt}
    _append(path, {"execution": execution, "started_at": time.time(), **what, **where})
    ended_by = "return"
    try:
        yield
    except BaseException as error:
        ended_by = type(error).__name__
        raise
    finally:
        _append(path, {"execution": execution, "ended_at": time.time(), "ended_by": ended_by})


def _append(path: str, entry: dict[str, Any]) -> None:
    """In one write, so that lines of several processes do not mix; nothing stays in a buffer when we are killed."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, (json.dumps(entry) + "\n").encode())
    finally:
        os.close(descriptor)
