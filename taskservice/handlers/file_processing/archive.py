"""Archives: how many entries they have and what they unpack to, told without unpacking them.

Must not write anything to disk nor hold more than a piece in memory.
"""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, Any, cast

from taskservice.context import StoredFile, TaskContext
from taskservice.files import CHUNK_BYTES
from taskservice.handlers.file_processing.failures import BROKEN, too_large, unsupported

MAX_ARCHIVE_ENTRIES = 10_000
MAX_UNPACKED_BYTES = 2**30
MAX_ZIP_READ_BYTES = 8 * 2**20  # what one read of an archive's directory may ask for
MAX_TAR_READ_BYTES = 2**20  # less, because tarfile nests them


def archive_facts(source: StoredFile, context: TaskContext) -> dict[str, Any] | None:
    """`{entries, unpacked_bytes}`, or None if it is no archive that this service can read."""
    with context.files.open(source.filename) as content:
        sizes = _sizes_of(content, source.mime_type)
        if sizes is None:
            return None
        size_bytes = source.size_bytes
        # The end is told once only, because it is what is never thinned out.
        facts = _counted(
            _broken_is_unsupported(sizes, source.filename),
            on_piece=lambda: context.progress(min(content.tell(), size_bytes - 1), size_bytes, "bytes"),
        )
    context.progress(size_bytes, size_bytes, "bytes")
    return facts


def _sizes_of(content: IO[bytes], mime_type: str) -> Iterator[tuple[int, int]] | None:
    """Piece by piece: how many new entries, and how many unpacked bytes."""
    magic = content.read(4)
    content.seek(0)
    if magic in (b"PK\x03\x04", b"PK\x05\x06"):
        return _zip_sizes(content)
    if mime_type == "application/x-tar":
        return _tar_sizes(content)
    if magic[:2] == b"\x1f\x8b":
        return _gzip_sizes(content)
    return None


def _broken_is_unsupported(sizes: Iterator[tuple[int, int]], filename: str) -> Iterator[tuple[int, int]]:
    """What breaks while the archive is read is the file's fault."""
    try:
        yield from sizes
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, *BROKEN) as error:
        raise unsupported(f"{filename!r} is a broken archive") from error


def _counted(sizes: Iterator[tuple[int, int]], *, on_piece: Callable[[], None]) -> dict[str, Any]:
    """Stops at the first size beyond the limits, before anything of it is read."""
    entries = unpacked_bytes = 0
    for new_entries, size_bytes in sizes:
        entries += new_entries
        unpacked_bytes += size_bytes
        on_piece()
        if entries > MAX_ARCHIVE_ENTRIES:
            raise too_large(f"an archive may have at most {MAX_ARCHIVE_ENTRIES} entries")
        if unpacked_bytes > MAX_UNPACKED_BYTES:
            raise too_large(f"an archive may unpack to at most {MAX_UNPACKED_BYTES} bytes")
    return {"entries": entries, "unpacked_bytes": unpacked_bytes}


def _zip_sizes(content: IO[bytes]) -> Iterator[tuple[int, int]]:
    with zipfile.ZipFile(cast(IO[bytes], _GuardedReader(content, MAX_ZIP_READ_BYTES))) as archive:
        for entry in archive.infolist():
            yield 1, entry.file_size


def _tar_sizes(content: IO[bytes]) -> Iterator[tuple[int, int]]:
    guarded = cast(IO[bytes], _GuardedReader(content, MAX_TAR_READ_BYTES))
    with tarfile.open(fileobj=guarded, mode="r:") as archive:
        while (member := archive.next()) is not None:
            yield 1, max(member.size, 0)


def _gzip_sizes(content: IO[bytes]) -> Iterator[tuple[int, int]]:
    """A tar inside, or else the one file that is."""
    with gzip.GzipFile(fileobj=content) as gzipped:
        unpacked = cast(IO[bytes], gzipped)
        is_tar = unpacked.read(512)[257:262] == b"ustar"
        unpacked.seek(0)
        if is_tar:
            yield from _tar_sizes(unpacked)
        else:
            yield 1, 0
        yield from _rest_sizes(unpacked, is_padding=is_tar)


def _rest_sizes(unpacked: IO[bytes], *, is_padding: bool) -> Iterator[tuple[int, int]]:
    """After a tar there is only padding, read for gzip's own checksum; it does not count, but it is bounded too."""
    rest_bytes = 0
    while chunk := unpacked.read(CHUNK_BYTES):
        rest_bytes += len(chunk)
        if rest_bytes > MAX_UNPACKED_BYTES:
            raise too_large(f"an archive may unpack to at most {MAX_UNPACKED_BYTES} bytes")
        yield 0, 0 if is_padding else len(chunk)


class _GuardedReader:
    """A seekable stream of which nobody reads a huge piece at once: archives are asked for names, not for contents."""

    def __init__(self, stream: IO[bytes], max_read_bytes: int) -> None:
        self._stream, self._max_read_bytes = stream, max_read_bytes
        self.seek = stream.seek
        self.tell = stream.tell

    def read(self, size: int = -1) -> bytes:
        if size > self._max_read_bytes:
            raise too_large("the archive's directory is too large")
        return self._stream.read(size if size >= 0 else self._max_read_bytes)

    def seekable(self) -> bool:
        return True
