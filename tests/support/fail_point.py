"""The web application with one fail point: the process dies after the deed and before the answer, once, when told.

gunicorn serves `app` in the place of app:app; without its flag file it is the same application.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from app import create_app
from taskservice.model import Cancellation, Submission
from taskservice.records import Records
from taskservice.settings import load_settings

FLAG_VARIABLE = "FAIL_POINT_FLAG"  # the path of the flag file; whoever removes it first dies


class MortalRecords(Records):
    """Records for which the process dies while the flag file is there: before it accepts, after it has cancelled."""

    def accept_many(self, submissions: Sequence[Submission]) -> None:
        _die_if_told()
        super().accept_many(submissions)

    def cancel_many(self, task_ids: Sequence[str]) -> list[Cancellation]:
        answers = super().cancel_many(task_ids)
        _die_if_told()
        return answers


def _die_if_told() -> None:
    flag = os.environ.get(FLAG_VARIABLE)
    if not flag:
        return
    try:
        Path(flag).unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


_settings = load_settings()
app = create_app(
    _settings, records=MortalRecords.connect(_settings.result_backend, retention_s=_settings.result_retention_s)
)
