"""The file store as a handler sees it: what it saves is noted, so that it can be deleted with the task's record.

Must not know which handler saves, nor when a file is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from taskservice.context import FileStore, StoredFile
from taskservice.records.made_files import MadeFile


class VersionedFiles(FileStore, Protocol):
    def save(self, filename: str, content: BinaryIO, *, note: Callable[[str], None] = ...) -> StoredFile:
        """`note` is told the version: another one whenever the file was written again."""


class NotedFiles:
    """A `context.FileStore`."""

    def __init__(self, files: VersionedFiles, note: Callable[[MadeFile], None]) -> None:
        self._files = files
        self._note = note

    def save(self, filename: str, content: BinaryIO) -> StoredFile:
        """A note names this very writing of the file: where it never came to that, it names nothing."""
        return self._files.save(filename, content, note=lambda version: self._note(MadeFile(filename, version)))

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
