"""The tidier: deletes files that tasks made once their records are forgotten, and what dead uploads have left.

A thread of each worker's main process; one of all workers tidies at a time. Must not know what a file is for.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Protocol, cast

from celery import bootsteps

from taskservice.errors import InvalidFileName, StoredFileNotFound
from taskservice.records.files_in_use import FilesInUse
from taskservice.records.made_files import MadeFile, MadeFiles
from taskservice.records.script import connect
from taskservice.worker.backend import RecordBackend
from taskservice.worker.threads import EndlessThread

logger = logging.getLogger(__name__)

TIDY_S = 30.0
TURN_S = 10.0  # what is left then waits for the next turn
IN_USE_S = 600.0  # until a file that an unfinished task names is looked at again
AWAY_S = 60.0  # until a file store that failed is asked again
LEFTOVERS_S = 3600.0
UPLOAD_S = 86_400.0  # longer than any upload takes
STORE_TIMEOUT_S = 2.0


class TidyFiles(Protocol):
    """What the tidier asks of a file store; every method raises OSError when the store is away."""

    def version(self, filename: str) -> str:
        """Raises StoredFileNotFound, InvalidFileName."""

    def delete(self, filename: str) -> None:
        """Raises StoredFileNotFound, InvalidFileName."""

    def remove_unfinished(self, *, older_than_s: float) -> int:
        """How many uploads were deleted that began so long ago and never ended."""


class Tidier:
    """Every method raises redis.RedisError, Unavailable and OSError: then the rest is done another time."""

    def __init__(self, made_files: MadeFiles, files_in_use: FilesInUse, files: TidyFiles) -> None:
        self._made_files = made_files
        self._files_in_use = files_in_use
        self._files = files

    def delete_unneeded(self) -> int:
        """How many files. One that an unfinished task names stays as long; one that was written again is not ours."""
        deleted, ends_at = 0, time.monotonic() + TURN_S
        while (unneeded := self._made_files.unneeded()) and time.monotonic() < ends_at:
            deleted += self._delete(unneeded)
        return deleted

    def remove_leftovers(self) -> int:
        return self._files.remove_unfinished(older_than_s=UPLOAD_S)

    def _delete(self, unneeded: Sequence[MadeFile]) -> int:
        deleted = 0
        for place, made in enumerate(unneeded):
            try:
                deleted += self._delete_one(made)
            except OSError:
                for left in unneeded[place:]:
                    self._made_files.put_off(left, AWAY_S)
                raise
        return deleted

    def _delete_one(self, made: MadeFile) -> bool:
        is_deleted = False
        with suppress(StoredFileNotFound, InvalidFileName):
            if self._is_unchanged(made):
                if self._files_in_use.user_of(made.filename) is not None:
                    self._made_files.put_off(made, IN_USE_S)
                    return False
                if self._is_unchanged(made):  # asking took long enough for an upload of that name
                    self._files.delete(made.filename)
                    is_deleted = True
        self._made_files.settle(made)
        return is_deleted

    def _is_unchanged(self, made: MadeFile) -> bool:
        return self._files.version(made.filename) == made.version


class TidierThread(EndlessThread):
    """Tidies whenever it is this worker's turn."""

    every_s = TIDY_S

    def __init__(self, made_files: MadeFiles, tidier: Tidier) -> None:
        super().__init__("tidier")
        self._made_files = made_files
        self._tidier = tidier

    def turn(self) -> None:
        try:
            self._tidy()
        except OSError as error:
            logger.warning("tidier.files_unreachable cause=%s", type(error).__name__)

    def _tidy(self) -> None:
        if self._made_files.is_my_turn("unneeded_files", every_s=TIDY_S):
            deleted = self._tidier.delete_unneeded()
            if deleted:
                logger.info("tidier.deleted files=%d", deleted)
        if self._made_files.is_my_turn("leftovers", every_s=LEFTOVERS_S):
            removed = self._tidier.remove_leftovers()
            if removed:
                logger.info("tidier.removed_uploads files=%d", removed)


class _TidierStep(bootsteps.StartStopStep):
    """Celery starts it with the worker."""

    requires = ("celery.worker.components:Pool",)
    open_files: ClassVar[Callable[[], TidyFiles]]

    def start(self, worker: Any) -> None:
        backend = cast(RecordBackend, worker.app.backend)
        client = connect(backend.url, timeout_s=STORE_TIMEOUT_S)
        made_files = MadeFiles(client)
        TidierThread(made_files, Tidier(made_files, FilesInUse(client), type(self).open_files())).start()


def tidier_step(open_files: Callable[[], TidyFiles]) -> type[bootsteps.StartStopStep]:
    """The step of a worker whose files are these."""
    return type("TidierStep", (_TidierStep,), {"open_files": staticmethod(open_files), "__module__": __name__})
