"""Task types that only tests have: they wait or fail on demand. Workers load them through TASK_TYPE_MODULES."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from pydantic import BaseModel, ConfigDict

from taskservice.errors import PermanentError, TransientError
from taskservice.handlers import task_type
from taskservice.model import TaskContext


class SleepParameters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    seconds: float = 0.0
    fail_attempts: int = 0  # so many attempts fail before one succeeds
    permanent: bool = False
    kill_worker: bool = False


@task_type("sleep", parameters=SleepParameters, time_limit_s=20, example={"seconds": 0.1})
def sleep(parameters: SleepParameters, ctx: TaskContext) -> dict[str, Any]:
    """Wait, then succeed or fail as told."""
    time.sleep(parameters.seconds)
    if parameters.kill_worker:
        os.kill(os.getpid(), signal.SIGKILL)
    if ctx.attempt <= parameters.fail_attempts:
        if parameters.permanent:
            raise PermanentError("file_not_found", "told to fail for good")
        raise TransientError("smtp_unavailable", "told to fail for now")
    return {"attempt": ctx.attempt, "slept_s": parameters.seconds}
