"""Where uploaded and produced files live (one flat directory, on a disk or behind fsspec).

Must not know HTTP, Celery, Redis or what a task does with a file.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat as stat_module
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import fsspec
from fsspec.core import split_protocol, url_to_fs
from fsspec.implementations.local import LocalFileSystem

from taskservice.context import StoredFile
from taskservice.errors import ConfigurationError, InvalidFileName, StoredFileNotFound, UploadTooLarge
from taskservice.file_kinds import guess_mime_type
from taskservice.file_names import check_filename
from taskservice.model import now

CHUNK_BYTES = 2**20
SNIFF_BYTES = 8192
UPLOAD_PREFIX = ".upload-"  # starts with a dot, so no client can address an unfinished upload

_MAX_REMEMBERED = 10_000

fsspec.register_implementation("s3", "taskservice.bucket.BucketFileSystem", clobber=True)  # imported when it is used


class FsspecFileStore:
    """A `context.FileStore` in a plain directory or below an fsspec URL such as `s3://bucket/prefix`.

    Only regular files count: in a local directory symbolic links are neither followed nor listed. The directory is
    created by the first save. Safe to build before a fork: nothing is connected until the first use.
    """

    def __init__(self, url: str, *, max_upload_bytes: int) -> None:
        self._url = url
        self._max_upload_bytes = max_upload_bytes
        self._remembered: dict[str, tuple[str, StoredFile]] = {}
        try:
            fsspec.get_filesystem_class(split_protocol(url)[0] or "file")
        except (ImportError, ValueError) as error:
            raise ConfigurationError(f"FILES_URL: expected a directory or an fsspec URL ({error})") from error

    def open(self, filename: str) -> BinaryIO:
        path = self._existing(check_filename(filename))
        try:
            return _open_without_following(path) if self._is_local else cast(BinaryIO, self._fs.open(path, "rb"))
        except FileNotFoundError as error:
            raise StoredFileNotFound(filename) from error

    def size_bytes(self, filename: str) -> int:
        return int(self._fs.info(self._existing(check_filename(filename)))["size"])

    @contextmanager
    def local_copy(self, filename: str) -> Iterator[str]:
        path = self._existing(check_filename(filename))
        if self._is_local:
            yield path
            return
        with tempfile.TemporaryDirectory(prefix="taskservice-") as directory:
            copy = str(Path(directory) / f"copy{PurePosixPath(filename).suffix}")
            self._fs.get_file(path, copy)
            yield copy

    def save(
        self, filename: str, content: BinaryIO, *, note: Callable[[str], None] = lambda version: None
    ) -> StoredFile:
        """As `context.FileStore` promises. `note` is told the file's version.

        In a directory that is before the file has its name: a process that dies in between leaves a note too many, and
        no file without one. Elsewhere it is at once afterwards.
        """
        filename = check_filename(filename)
        self._fs.makedirs(self._root, exist_ok=True)
        unfinished = self._path(f"{UPLOAD_PREFIX}{uuid.uuid4().hex}")
        with ExitStack() as unless_stored:
            unless_stored.callback(self._remove, unfinished)
            stored = self._write(unfinished, filename, content)
            if self._is_local:
                note(self._version(unfinished))
            self._move(unfinished, self._path(filename))
            unless_stored.pop_all()
        if not self._is_local:
            with suppress(StoredFileNotFound):  # deleted already
                note(self.version(filename))
        return stored

    def stat(self, filename: str) -> StoredFile:
        filename = check_filename(filename)
        fingerprint = self._fingerprint(self._existing(filename))
        known = self._remembered.get(filename)
        if known is not None and known[0] == fingerprint:
            return known[1]
        with self.open(filename) as content:
            stored = _describe(filename, content)
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[filename] = (fingerprint, stored)
        return stored

    def list(self) -> Iterator[StoredFile]:
        try:
            names = sorted(PurePosixPath(path).name for path in self._fs.ls(self._root, detail=False))
        except FileNotFoundError:
            return
        for name in names:
            with suppress(StoredFileNotFound, InvalidFileName):  # deleted meanwhile, a link, or not a file of ours
                if check_filename(name) == name:
                    yield self.stat(name)

    def delete(self, filename: str) -> None:
        filename = check_filename(filename)
        path = self._existing(filename)
        self._remembered.pop(filename, None)
        try:
            self._fs.rm_file(path)
        except FileNotFoundError as error:
            raise StoredFileNotFound(filename) from error

    def version(self, filename: str) -> str:
        """Another one whenever the file was written again, also with the same content.

        Raises StoredFileNotFound, InvalidFileName, and OSError when the store does not answer.
        """
        filename = check_filename(filename)
        try:
            return self._version(self._existing(filename) if self._is_local else self._path(filename))
        except FileNotFoundError as error:
            raise StoredFileNotFound(filename) from error

    def remove_unfinished(self, *, older_than_s: float) -> int:
        """Uploads that nobody finishes any more, because their process died; how many. Raises OSError."""
        try:
            paths = [str(path) for path in self._fs.ls(self._root, detail=False)]
        except FileNotFoundError:
            return 0
        unfinished = [path for path in paths if PurePosixPath(path).name.startswith(UPLOAD_PREFIX)]
        old = [path for path in unfinished if self._age_s(path) > older_than_s]
        for path in old:
            with suppress(FileNotFoundError):
                self._fs.rm_file(path)
        return len(old)

    @property
    def _fs(self) -> Any:
        """fsspec's own cached instance, asked anew because that cache is emptied in a forked process."""
        return url_to_fs(self._url, use_listings_cache=False)[0]

    @property
    def _root(self) -> str:
        return str(url_to_fs(self._url, use_listings_cache=False)[1]).rstrip("/") or "/"

    @property
    def _is_local(self) -> bool:
        return isinstance(self._fs, LocalFileSystem)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _existing(self, filename: str) -> str:
        path = self._path(filename)
        if self._is_local:
            try:
                exists = stat_module.S_ISREG(os.lstat(path).st_mode)
            except OSError:
                exists = False
        else:
            exists = bool(self._fs.isfile(path))
        if not exists:
            raise StoredFileNotFound(filename)
        return path

    def _age_s(self, path: str) -> float:
        """Since it was written; 0 when it is gone, or the store does not say."""
        try:
            return (now() - cast(datetime, self._fs.modified(path))).total_seconds()
        except (FileNotFoundError, NotImplementedError):
            return 0.0

    def _version(self, path: str) -> str:
        """The same before and after a move."""
        if not self._is_local:
            return str(self._fs.ukey(path))
        status = os.lstat(path)
        return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"

    def _fingerprint(self, path: str) -> str:
        """Another one whenever the content may be another, also when a program set its time back."""
        if not self._is_local:
            return str(self._fs.ukey(path))
        try:
            status = os.lstat(path)
        except FileNotFoundError as error:
            raise StoredFileNotFound(PurePosixPath(path).name) from error
        return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"

    def _write(self, path: str, filename: str, content: BinaryIO) -> StoredFile:
        with self._fs.open(path, "wb") as target:
            stored = _describe(filename, content, target, self._max_upload_bytes)
            if self._is_local:
                target.flush()
                os.fsync(target.fileno())
        return stored

    def _remove(self, unfinished: str) -> None:
        with suppress(OSError):  # then it goes as a leftover
            self._fs.rm_file(unfinished)

    def _move(self, unfinished: str, path: str) -> None:
        if not self._is_local:
            self._fs.mv(unfinished, path)
            return
        try:
            Path(unfinished).replace(path)
        except IsADirectoryError as error:
            raise InvalidFileName("this name is taken by a directory") from error


def _open_without_following(path: str) -> BinaryIO:
    """Also when the file became a symbolic link after it was looked at. Raises FileNotFoundError."""
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb")
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileNotFoundError(path) from error
        raise


def _describe(
    filename: str, content: BinaryIO, target: BinaryIO | None = None, limit_bytes: int | None = None
) -> StoredFile:
    """Read to the end, copying to `target` if there is one. Raises UploadTooLarge beyond `limit_bytes`."""
    checksum, size_bytes, head = hashlib.sha256(), 0, b""
    while chunk := content.read(CHUNK_BYTES):
        size_bytes += len(chunk)
        if limit_bytes is not None and size_bytes > limit_bytes:
            raise UploadTooLarge(limit_bytes)
        if len(head) < SNIFF_BYTES:
            head += chunk[: SNIFF_BYTES - len(head)]
        checksum.update(chunk)
        if target is not None:
            target.write(chunk)
    return StoredFile(filename, size_bytes, checksum.hexdigest(), guess_mime_type(filename, head))
