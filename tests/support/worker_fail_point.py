"""Two moments in which a worker dies, once, when told: for TASK_TYPE_MODULES, so that only tests load it.

The flag file holds the moment's name. Celery's own signals mark them; nothing of the service is replaced.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from celery.signals import after_task_publish, task_postrun

FLAG_VARIABLE = "WORKER_FAIL_POINT_FLAG"  # the path of the flag file; whoever removes it first dies


class Moment(StrEnum):
    END_STORED = "end stored"  # and its message not yet acknowledged: the child dies
    RETRY_PUBLISHED = "retry published"  # not yet recorded, the old message not acknowledged: the main process dies


@task_postrun.connect
def die_with_the_end_stored(**_: Any) -> None:
    if _is_told(Moment.END_STORED):
        os.kill(os.getpid(), signal.SIGKILL)


@after_task_publish.connect
def die_with_the_retry_published(headers: Mapping[str, Any], **_: Any) -> None:
    if headers.get("retries") and _is_told(Moment.RETRY_PUBLISHED):
        os.kill(os.getppid(), signal.SIGKILL)
        signal.pause()  # our parent's end is ours


def _is_told(moment: Moment) -> bool:
    flag = Path(os.environ.get(FLAG_VARIABLE, "/nowhere"))
    try:
        if flag.read_text() != moment:
            return False
        flag.unlink()
    except FileNotFoundError:
        return False
    return True
