"""The file store as a handler sees it: what it saves is noted, so that it can be deleted with the task's record.

Must not know which handler saves, nor when a file is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import BinaryIO, Protocol

from taskservice.context import FileStore, StoredFile
from taskservice.errors import StoredFileNotFound
from taskservice.records.made_files import MadeFile


class VersionedFiles(FileStore, Protocol):
    def version(self, filename: str) -> str:
        """Another one whenever the file was written again. Raises StoredFileNotFound, InvalidFileName."""


class NotedFiles:
    """A `context.FileStore`."""

    def __init__(self, files: VersionedFiles, note: Callable[[MadeFile], None]) -> None:
        self._files = files
        self._note = note

    def save(self, filename: str, content: BinaryIO) -> StoredFile:
        """Noted after it was written: a note of what was never written would be a note of somebody else's file."""
        stored = self._files.save(filename, content)
        with suppress(StoredFileNotFound):  # deleted already
            self._note(MadeFile(stored.filename, self._files.version(stored.filename)))
        return stored

    def open(self, filename: str) -> BinaryIO:
        return self._files.open(filename)

    def size_bytes(self, filename: str) -> int:
        return self._files.size_bytes(filename)

    def local_copy(self, filename: str) -> AbstractContextManager[str]:
        return self._files.local_copy(filename)

    def stat(self, filename: str) -> StoredFile:
        return self._files.stat(filename)

    def list(self) -> Iterator[StoredFile]:
        return self._files.list()

    def delete(self, filename: str) -> None:
        self._files.delete(filename)
