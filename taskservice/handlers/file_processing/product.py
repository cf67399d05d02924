"""Bytes in and out: the source in chunks, and the file that is made from it.

Must not know what the bytes mean.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import IO, Any, BinaryIO, cast

from taskservice.context import StoredFile, TaskContext
from taskservice.file_names import check_filename
from taskservice.files import CHUNK_BYTES
from taskservice.handlers.file_processing.parameters import FileProcessingParameters

IN_MEMORY_BYTES = 8 * 2**20  # a larger product waits on disk to be stored


def chunks(source: StoredFile, context: TaskContext) -> Iterator[bytes]:
    """All of the source, with progress after each chunk."""
    done = 0
    with context.files.open(source.filename) as content:
        while chunk := content.read(CHUNK_BYTES):
            yield chunk
            done += len(chunk)
            context.progress(done, source.size_bytes, "bytes")


def new_product() -> AbstractContextManager[IO[bytes]]:
    """Where a file is made before it is stored; gone afterwards."""
    return tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)


def store(output: str, product: IO[bytes], context: TaskContext) -> dict[str, Any]:
    """Save what was made under the name `output`. The result's `output`: filename, size, checksum, type."""
    product.seek(0)
    return asdict(context.files.save(output, cast(BinaryIO, product)))


def derived_name(parameters: FileProcessingParameters, suffix: str, context: TaskContext) -> str:
    """Every attempt of a task makes the same file; no two tasks do."""
    stem = PurePosixPath(parameters.filename).stem.encode()[:80].decode(errors="ignore")
    safe_suffix = suffix if len(suffix.encode()) <= 40 else suffix[suffix.rindex(".") :]
    return check_filename(f"{stem}-{parameters.operation.value}-{context.task_id}{safe_suffix}")
