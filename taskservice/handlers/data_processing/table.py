"""What a table holds: inline data, or an uploaded file, as a profile of its columns or the answer to a query.

Must not know where files are kept, nor how DuckDB is kept within its bounds.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from taskservice.context import TaskContext
from taskservice.errors import InvalidFileName, PermanentError, StoredFileNotFound
from taskservice.handlers.data_processing.database import (
    MAX_FILE_ROWS,
    Database,
    first_line,
    opened_database,
    without_paths,
)
from taskservice.handlers.data_processing.parameters import MAX_COLUMNS
from taskservice.handlers.data_processing.profile import profile
from taskservice.handlers.data_processing.query import answer

MAX_FILE_BYTES = 100 * 2**20
QUERY_TIME_LIMIT_S = 60.0  # for loading and for the profile as well

_READERS = {
    ".csv": "read_csv(?, header = true, quote = '\"', escape = '\"', sample_size = -1)",
    ".json": "read_json(?, sample_size = -1, map_inference_threshold = -1)",
    ".ndjson": "read_json(?, format = 'newline_delimited', sample_size = -1, map_inference_threshold = -1)",
    ".parquet": "read_parquet(?)",
}
_READERS[".jsonl"] = _READERS[".ndjson"]
_TEXT_READER = "read_json(?, format = 'newline_delimited', columns = {line: 'VARCHAR'})"


def summarize_table(
    data: Any, query: str, *, time_limit_s: float = QUERY_TIME_LIMIT_S, on_wait: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """The profile of inline data, or the answer to `query` over it. What `on_wait` raises ends the work."""
    import duckdb

    rows, reader = _as_rows(data)
    with (
        tempfile.TemporaryDirectory() as directory,
        opened_database(time_limit_s=time_limit_s, on_wait=on_wait) as database,
    ):
        path = Path(directory) / "data.ndjson"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="ascii")
        try:
            database.load(path, reader)
        except (duckdb.Error, MemoryError) as error:
            raise PermanentError("query_failed", "the data cannot be read as a table") from error
        return _summarize(database, query)


def is_rows(data: Any) -> bool:
    return isinstance(data, list) and bool(data) and isinstance(data[0], dict)


def _as_rows(data: Any) -> tuple[list[dict[str, Any]], str]:
    if isinstance(data, str):
        return [{"line": line} for line in data.splitlines()], _TEXT_READER
    if isinstance(data, dict):
        return [data], _READERS[".ndjson"]
    if is_rows(data):
        return data, _READERS[".ndjson"]
    kind = "DOUBLE" if not data or any(isinstance(item, float) for item in data) else "HUGEINT"
    return [{"value": item} for item in data], _TEXT_READER.replace("line: 'VARCHAR'", f"value: '{kind}'")


def summarize_file(
    filename: str, query: str, context: TaskContext, *, time_limit_s: float = QUERY_TIME_LIMIT_S
) -> dict[str, Any]:
    """The profile of an uploaded table, or the answer to `query` over it.

    Raises PermanentError: file_not_found, unsupported_file, file_too_large, and what a query may raise.
    """
    suffix = PurePosixPath(filename).suffix.lower()
    if suffix not in _READERS:
        raise PermanentError("unsupported_file", f"{filename!r} is none of {', '.join(sorted(_READERS))}")
    reading = partial(context.progress, 0, 3, "reading the file")
    asking = partial(context.progress, 1, 3, "running the query" if query else "profiling the columns")
    reading()
    with opened_database(time_limit_s=time_limit_s, on_wait=reading) as database:
        try:
            _refuse_unusable_size(filename, context.files.size_bytes(filename))
            with context.files.local_copy(filename) as path:
                _load_file(database, Path(path), filename)
        except (StoredFileNotFound, InvalidFileName) as error:
            raise PermanentError("file_not_found", f"no uploaded file is named {filename!r}") from error
        _refuse_unusable_shape(database, filename)
        asking()
        result = _summarize(replace(database, on_wait=asking), query)
    context.progress(3, 3, "done")
    return result


def _refuse_unusable_size(filename: str, size_bytes: int) -> None:
    if size_bytes == 0:
        raise PermanentError("unsupported_file", f"{filename!r} is empty")
    if size_bytes > MAX_FILE_BYTES:
        raise PermanentError(
            "file_too_large", f"{filename!r} has {size_bytes} bytes; at most {MAX_FILE_BYTES} can be processed"
        )


def _load_file(database: Database, path: Path, filename: str) -> None:
    """Through a link with a plain name: DuckDB would take `*` or `[` in the file's own name for a pattern."""
    import duckdb

    suffix = PurePosixPath(filename).suffix.lower()
    with tempfile.TemporaryDirectory() as directory:
        link = Path(directory) / f"data{suffix}"
        link.symlink_to(path.resolve())
        try:
            database.load(link, _READERS[suffix])
        except (duckdb.OutOfMemoryException, MemoryError) as error:
            raise PermanentError("file_too_large", f"{filename!r} does not fit into memory") from error
        except duckdb.Error as error:
            detail = first_line(error).replace(str(link), filename)
            message = f"{filename!r} cannot be read as {suffix[1:]}: {without_paths(detail, allowed=filename)}"
            raise PermanentError("unsupported_file", message) from error


def _refuse_unusable_shape(database: Database, filename: str) -> None:
    if database.row_count() > MAX_FILE_ROWS:
        raise PermanentError("file_too_large", f"{filename!r} has more than {MAX_FILE_ROWS} rows")
    names = [name for name, _ in database.columns()]
    if len(names) > MAX_COLUMNS:
        raise PermanentError("file_too_large", f"{filename!r} has {len(names)} columns; at most {MAX_COLUMNS} are read")
    if filename.lower().endswith(".csv") and len(names) == 1 and re.search(r"[,;\t|]", names[0]):
        raise PermanentError("unsupported_file", f"the rows of {filename!r} have differing numbers of columns")


def _summarize(database: Database, query: str) -> dict[str, Any]:
    database.lock()
    return answer(database, query) if query else profile(database)
