"""Operation `compress`.

Must not know what kind of file it is.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, Any, cast

from taskservice.context import StoredFile, TaskContext
from taskservice.handlers.file_processing.parameters import FileProcessingParameters
from taskservice.handlers.file_processing.product import chunks, derived_name, new_product, store

_SUFFIXES = {"gzip": ".gz", "zip": ".zip", "bz2": ".bz2", "xz": ".xz"}


def compress(parameters: FileProcessingParameters, source: StoredFile, context: TaskContext) -> dict[str, Any]:
    """`{method, output}`."""
    suffix = PurePosixPath(parameters.filename).suffix + _SUFFIXES[parameters.method]
    output = parameters.output or derived_name(parameters, suffix, context)
    with new_product() as product:
        with _compressor(parameters.method, parameters.filename, product) as target:
            for chunk in chunks(source, context):
                target.write(chunk)
        return {"method": parameters.method, "output": store(output, product, context)}


@contextmanager
def _compressor(method: str, filename: str, product: IO[bytes]) -> Iterator[IO[bytes]]:
    """Repeatable: the same bytes in give the same bytes out, so no time of day goes in."""
    if method == "zip":
        entry = zipfile.ZipInfo(filename)
        entry.compress_type = zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(product, "w") as archive, archive.open(entry, "w") as target:
            yield target
    elif method == "bz2":
        with bz2.BZ2File(product, "wb") as target:
            yield cast(IO[bytes], target)
    elif method == "xz":
        with lzma.LZMAFile(product, "wb") as target:
            yield cast(IO[bytes], target)
    else:
        with gzip.GzipFile("", "wb", fileobj=product, mtime=0) as target:
            yield cast(IO[bytes], target)
