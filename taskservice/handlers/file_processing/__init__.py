"""Task type `file_processing`: look at an uploaded file, or make another one from it.

Must not know Celery, Redis or HTTP; the libraries for each kind of file are imported where they are used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from taskservice.context import StoredFile, TaskContext
from taskservice.errors import PermanentError, StoredFileNotFound, UploadTooLarge
from taskservice.handlers import task_type
from taskservice.handlers.file_processing.archive import MAX_ARCHIVE_ENTRIES, MAX_UNPACKED_BYTES
from taskservice.handlers.file_processing.compression import compress
from taskservice.handlers.file_processing.failures import too_large
from taskservice.handlers.file_processing.image import IMAGE_FORMATS, convert_image, thumbnail
from taskservice.handlers.file_processing.inspection import inspect
from taskservice.handlers.file_processing.parameters import FileProcessingParameters, Operation
from taskservice.handlers.file_processing.pdf import MAX_PAGES
from taskservice.handlers.file_processing.product import chunks, derived_name
from taskservice.handlers.file_processing.table import MAX_ROWS, convert_table
from taskservice.handlers.file_processing.text import extract_text

__all__ = [
    "MAX_ARCHIVE_ENTRIES",
    "MAX_FILE_BYTES",
    "MAX_PAGES",
    "MAX_ROWS",
    "MAX_UNPACKED_BYTES",
    "FileProcessingParameters",
    "process_file",
]

MAX_FILE_BYTES = 200 * 2**20


@task_type(
    "file_processing",
    parameters=FileProcessingParameters,
    max_retries=3,
    time_limit_s=300,
    example={"filename": "example.txt", "operation": "inspect"},
)
def process_file(parameters: FileProcessingParameters, context: TaskContext) -> Mapping[str, Any]:
    """Inspect, checksum, extract text from, make a thumbnail of, convert or compress an uploaded file."""
    try:
        if context.files.size_bytes(parameters.filename) > MAX_FILE_BYTES:
            raise too_large(f"a file may have at most {MAX_FILE_BYTES} bytes")
        source = context.files.stat(parameters.filename)
        facts = _OPERATIONS[parameters.operation](parameters, source, context)
    except StoredFileNotFound as error:
        raise PermanentError("file_not_found", str(error)) from error
    except UploadTooLarge as error:
        raise too_large(f"the file made from {parameters.filename!r} is too large: {error}") from error
    return {**asdict(source), "operation": parameters.operation.value, **facts}


def checksum(parameters: FileProcessingParameters, source: StoredFile, context: TaskContext) -> dict[str, Any]:
    """`{algorithm, checksum}`, in hexadecimal."""
    digest = hashlib.new(parameters.algorithm, usedforsecurity=False)
    for chunk in chunks(source, context):
        digest.update(chunk)
    return {"algorithm": parameters.algorithm, "checksum": digest.hexdigest()}


def convert(parameters: FileProcessingParameters, source: StoredFile, context: TaskContext) -> dict[str, Any]:
    """Images to images, tables to tables."""
    wanted = parameters.format or ""  # the parameters' model requires it here
    output = parameters.output or derived_name(parameters, f".{wanted}", context)
    make = convert_image if wanted in IMAGE_FORMATS else convert_table
    return make(wanted, output, source, context)


_OPERATIONS: dict[Operation, Callable[[FileProcessingParameters, StoredFile, TaskContext], dict[str, Any]]] = {
    Operation.INSPECT: inspect,
    Operation.CHECKSUM: checksum,
    Operation.EXTRACT_TEXT: extract_text,
    Operation.THUMBNAIL: thumbnail,
    Operation.CONVERT: convert,
    Operation.COMPRESS: compress,
}
