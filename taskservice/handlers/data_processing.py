"""Task type `data_processing`: statistics of text and numbers, a profile of rows, or the answer to one SQL query.

Must not know where files are kept. DuckDB is imported where it is used: the web needs only the parameters' model.
"""

from __future__ import annotations

import base64
import json
import math
import re
import statistics
import tempfile
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from taskservice.errors import InvalidFileName, PermanentError, StoredFileNotFound
from taskservice.handlers import task_type
from taskservice.model import TaskContext

if TYPE_CHECKING:
    import duckdb

MAX_TEXT_CHARS = 2**20  # more than a request's body of 1 MiB can hold
MAX_COLUMNS = 1000
MAX_QUERY_CHARS = 10_000
MAX_FILE_BYTES = 100 * 2**20
MAX_FILE_ROWS = 1_000_000
MAX_RESULT_ROWS = 1000
MAX_RESULT_BYTES = 2**20  # of a query's rows as JSON
QUERY_TIME_LIMIT_S = 60.0  # for loading and for the profile as well
MAX_EXTRA_MEMORY_BYTES = 2**30  # of address space, beyond what the process has when a query starts
TOP_WORDS = 10
MAX_EXTREME_CHARS = 200  # of a column's smallest and largest text

_READERS = {
    ".csv": "read_csv(?, header = true, quote = '\"', escape = '\"', sample_size = -1)",
    ".json": "read_json(?, sample_size = -1, map_inference_threshold = -1)",
    ".ndjson": "read_json(?, format = 'newline_delimited', sample_size = -1, map_inference_threshold = -1)",
    ".parquet": "read_parquet(?)",
}
_READERS[".jsonl"] = _READERS[".ndjson"]
_TEXT_READER = "read_json(?, format = 'newline_delimited', columns = {line: 'VARCHAR'})"
_NUMERIC = re.compile(r"(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|U?INT\d+|FLOAT|DOUBLE|DECIMAL)\b")
_NESTED = re.compile(r"STRUCT|MAP|UNION|VARIANT|JSON|\"NULL\"|GEOMETRY|.*\]$")


def _checked_data(value: Any) -> Any:
    """Return the value. Raises ValueError if it is none of the four kinds, or a number in it is not finite."""
    if isinstance(value, str):
        if len(value) > MAX_TEXT_CHARS:
            raise ValueError(f"a string may have at most {MAX_TEXT_CHARS} characters")
    elif isinstance(value, dict) or (isinstance(value, list) and _is_uniform(value)):
        _refuse_unusable_numbers(value)
        _refuse_many_columns([value] if isinstance(value, dict) else value)
    else:
        raise ValueError("expected a string, an array of numbers, an array of objects or an object")
    return value


def _is_uniform(items: list[Any]) -> bool:
    return all(_is_number(item) for item in items) or all(isinstance(item, dict) for item in items)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refuse_unusable_numbers(value: Any) -> None:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, float) and not math.isfinite(item):
            raise ValueError("numbers must be finite: NaN and Infinity are not JSON")
        elif isinstance(item, int) and not -(2**63) <= item < 2**64:
            raise ValueError("whole numbers must fit into 64 bits")


def _refuse_many_columns(rows: list[Any]) -> None:
    names = {name for row in rows if isinstance(row, dict) for name in row}
    if len(names) > MAX_COLUMNS:
        raise ValueError(f"the objects may have at most {MAX_COLUMNS} different members, not {len(names)}")


def _checked_filename(value: str) -> str:
    if value in (".", "..") or any(character in value for character in "/\\\0"):
        raise ValueError("expected the name of an uploaded file, without directories")
    return value


_DATA_SCHEMA = {
    "title": "Data",
    "description": "text, numbers, rows (objects), or one row (an object)",
    "anyOf": [
        {"type": "string", "maxLength": MAX_TEXT_CHARS},
        {"type": "array", "items": {"type": "number"}},
        {"type": "array", "items": {"type": "object"}},
        {"type": "object"},
    ],
}


def _describe_choice(schema: dict[str, Any]) -> None:
    for described in schema["properties"].values():
        described.pop("default", None)  # our marks for "not given" are not values a client may send
    schema["oneOf"] = [{"required": ["data"]}, {"required": ["file"]}]


class DataProcessingParameters(BaseModel):
    """Exactly one of `data` and `file`; with `query`, its answer instead of statistics."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_describe_choice)

    data: Annotated[Any, AfterValidator(_checked_data), WithJsonSchema(_DATA_SCHEMA)] = None
    file: Annotated[str, AfterValidator(_checked_filename)] = Field(
        default="",
        min_length=1,
        max_length=255,
        description="an uploaded .csv (with a header), .json, .ndjson or .parquet",
    )
    query: str = Field(
        default="",
        min_length=1,
        max_length=MAX_QUERY_CHARS,
        description="one SELECT over the table `data`; text has the column `line`, numbers have `value`",
    )

    @model_validator(mode="after")
    def _exactly_one_source(self) -> DataProcessingParameters:
        if (self.data is None) == (not self.file):
            raise ValueError("expected exactly one of data and file")
        return self


@task_type(
    "data_processing",
    parameters=DataProcessingParameters,
    max_retries=3,
    time_limit_s=300,
    example={"data": "test data"},
)
def process_data(parameters: DataProcessingParameters, context: TaskContext) -> Mapping[str, Any]:
    """Statistics of text or numbers, a profile of rows or of an uploaded table, or a SQL query over them."""
    if parameters.file:
        return summarize_file(parameters.file, parameters.query, context)
    if parameters.query or isinstance(parameters.data, dict) or _is_rows(parameters.data):
        return summarize_table(parameters.data, parameters.query)
    if isinstance(parameters.data, str):
        return summarize_text(parameters.data)
    return summarize_numbers(parameters.data)


def _is_rows(data: Any) -> bool:
    return isinstance(data, list) and bool(data) and isinstance(data[0], dict)


def summarize_text(text: str) -> dict[str, Any]:
    """Words stand between white space, without the punctuation around them; they are the same in any letter case."""
    words = [word for chunk in text.split() if (word := _bare_word(chunk))]
    counts = Counter(unicodedata.normalize("NFC", word.casefold()) for word in words)
    top = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:TOP_WORDS]
    return {
        "characters": len(text),
        "words": len(words),
        "lines": len(text.splitlines()),
        "unique_words": len(counts),
        "top_words": [{"word": word, "count": count} for word, count in top],
    }


def _bare_word(chunk: str) -> str:
    start, end = 0, len(chunk)
    while start < end and unicodedata.category(chunk[start]).startswith("P"):
        start += 1
    while end > start and unicodedata.category(chunk[end - 1]).startswith("P"):
        end -= 1
    return chunk[start:end]


def summarize_numbers(numbers: list[int | float]) -> dict[str, Any]:
    """`stdev` is the sample's, `p95` interpolates linearly; null where nothing finite can be said."""
    return {
        "count": len(numbers),
        "min": min(numbers, default=None),
        "max": max(numbers, default=None),
        "mean": _finite(lambda: statistics.mean(numbers)) if numbers else None,
        "median": _finite(lambda: statistics.median(numbers)) if numbers else None,
        "stdev": _finite(lambda: statistics.stdev(numbers)) if len(numbers) > 1 else None,
        "p95": _finite(lambda: _percentile(sorted(numbers), 0.95)) if numbers else None,
        "sum": _finite(lambda: _sum(numbers)),
    }


def _finite(compute: Callable[[], float]) -> float | None:
    try:
        value = compute()
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def _percentile(ordered: list[int | float], share: float) -> float:
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    weight = position - below
    return ordered[below] * (1 - weight) + ordered[above] * weight


def _sum(numbers: list[int | float]) -> int | float:
    if any(isinstance(number, float) for number in numbers):
        return math.fsum(numbers)
    total = sum(numbers)
    return total if abs(total) < 2**63 else float(total)


def summarize_table(data: Any, query: str, *, time_limit_s: float = QUERY_TIME_LIMIT_S) -> dict[str, Any]:
    """The profile of inline data, or the answer to `query` over it."""
    rows, reader = _as_rows(data)
    with tempfile.TemporaryDirectory() as directory, _connection() as connection:
        path = Path(directory) / "data.ndjson"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="ascii")
        try:
            _load(connection, path, reader, time_limit_s=time_limit_s)
        except _duckdb_error() as error:
            raise PermanentError("query_failed", "the data cannot be read as a table") from error
        _lock(connection)
        return _summarize(connection, query, time_limit_s=time_limit_s)


def _as_rows(data: Any) -> tuple[list[dict[str, Any]], str]:
    if isinstance(data, str):
        return [{"line": line} for line in data.splitlines()], _TEXT_READER
    if isinstance(data, dict):
        return [data], _READERS[".ndjson"]
    if _is_rows(data):
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
    context.progress(0, 3, "reading the file")
    with _connection() as connection:
        try:
            _refuse_unusable_size(filename, context.files.size_bytes(filename))
            with context.files.local_copy(filename) as path:
                _load_file(connection, Path(path), filename, time_limit_s=time_limit_s)
        except (StoredFileNotFound, InvalidFileName) as error:
            raise PermanentError("file_not_found", f"no uploaded file is named {filename!r}") from error
        _refuse_unusable_shape(connection, filename)
        context.progress(1, 3, "running the query" if query else "profiling the columns")
        _lock(connection)
        result = _summarize(connection, query, time_limit_s=time_limit_s)
    context.progress(3, 3, "done")
    return result


def _refuse_unusable_size(filename: str, size_bytes: int) -> None:
    if size_bytes == 0:
        raise PermanentError("unsupported_file", f"{filename!r} is empty")
    if size_bytes > MAX_FILE_BYTES:
        raise PermanentError(
            "file_too_large", f"{filename!r} has {size_bytes} bytes; at most {MAX_FILE_BYTES} can be processed"
        )


def _load_file(connection: duckdb.DuckDBPyConnection, path: Path, filename: str, *, time_limit_s: float) -> None:
    """Through a link with a plain name: DuckDB would take `*` or `[` in the file's own name for a pattern."""
    import duckdb

    suffix = PurePosixPath(filename).suffix.lower()
    with tempfile.TemporaryDirectory() as directory:
        link = Path(directory) / f"data{suffix}"
        link.symlink_to(path.resolve())
        try:
            _load(connection, link, _READERS[suffix], time_limit_s=time_limit_s)
        except (duckdb.OutOfMemoryException, MemoryError) as error:
            raise PermanentError("file_too_large", f"{filename!r} does not fit into memory") from error
        except duckdb.Error as error:
            detail = _first_line(error).replace(str(link), filename)
            message = f"{filename!r} cannot be read as {suffix[1:]}: {_without_paths(detail, allowed=filename)}"
            raise PermanentError("unsupported_file", message) from error


def _refuse_unusable_shape(connection: duckdb.DuckDBPyConnection, filename: str) -> None:
    if _row_count(connection) > MAX_FILE_ROWS:
        raise PermanentError("file_too_large", f"{filename!r} has more than {MAX_FILE_ROWS} rows")
    names = [name for name, _ in _columns(connection)]
    if len(names) > MAX_COLUMNS:
        raise PermanentError("file_too_large", f"{filename!r} has {len(names)} columns; at most {MAX_COLUMNS} are read")
    if filename.lower().endswith(".csv") and len(names) == 1 and re.search(r"[,;\t|]", names[0]):
        raise PermanentError("unsupported_file", f"the rows of {filename!r} have differing numbers of columns")


@contextmanager
def _connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty database in memory that never spills to disk and never sees Python's variables."""
    import duckdb

    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": 2,
        "memory_limit": "512MB",
        "temp_directory": "",
        "secret_directory": "none",  # or its default would be readable in duckdb_settings()
        "autoload_known_extensions": False,
        "autoinstall_known_extensions": False,
        "python_enable_replacements": False,
    }
    connection = duckdb.connect(":memory:", config=config)
    try:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
    finally:
        connection.close()


def _load(connection: duckdb.DuckDBPyConnection, path: Path, reader: str, *, time_limit_s: float) -> None:
    statement = f"CREATE TABLE data AS SELECT * FROM {reader} LIMIT {MAX_FILE_ROWS + 1}"
    with _memory_limit(), _time_limit(connection, time_limit_s):
        connection.execute(statement, [str(path)])


def _lock(connection: duckdb.DuckDBPyConnection) -> None:
    """From here on: no files, no network, no other settings, and no writing, not even from a CTE."""
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    connection.execute("BEGIN TRANSACTION READ ONLY")


def _summarize(connection: duckdb.DuckDBPyConnection, query: str, *, time_limit_s: float) -> dict[str, Any]:
    with _memory_limit():
        return _answer(connection, query, time_limit_s) if query else _profile(connection, time_limit_s)


def _answer(connection: duckdb.DuckDBPyConnection, query: str, time_limit_s: float) -> dict[str, Any]:
    import duckdb

    try:
        statement = _only_select(connection, query)
        with _time_limit(connection, time_limit_s):
            connection.execute(statement)
            names = [column[0] for column in connection.description or ()]
            rows = _fetch(connection)
    except duckdb.TransactionException as error:
        raise PermanentError("query_not_allowed", "the query may only read, not write") from error
    except duckdb.PermissionException as error:
        raise PermanentError("query_not_allowed", "the query may use the table data only, no files") from error
    except (duckdb.Error, MemoryError) as error:
        raise PermanentError("query_failed", _without_paths(_first_line(error), allowed=query)) from error
    shown = rows[:MAX_RESULT_ROWS]
    return {"columns": names, "rows": shown, "row_count": len(shown), "truncated": len(rows) > len(shown)}


def _only_select(connection: duckdb.DuckDBPyConnection, query: str) -> duckdb.Statement:
    import duckdb

    statements = connection.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise PermanentError("query_not_allowed", "expected exactly one SELECT statement over the table data")
    return statements[0]


def _fetch(connection: duckdb.DuckDBPyConnection) -> list[list[Any]]:
    """At most one row more than a result may have, which tells that there are more."""
    rows: list[list[Any]] = []
    size_bytes = 0
    while len(rows) <= MAX_RESULT_ROWS and (row := connection.fetchone()) is not None:
        rows.append([_json_value(value) for value in row])
        size_bytes += len(json.dumps(rows[-1]))
        if size_bytes > MAX_RESULT_BYTES:
            raise PermanentError("result_too_large", f"the query's rows have more than {MAX_RESULT_BYTES} bytes")
    return rows


def _profile(connection: duckdb.DuckDBPyConnection, time_limit_s: float) -> dict[str, Any]:
    import duckdb

    try:
        with _time_limit(connection, time_limit_s):
            columns = [_column_profile(connection, name, kind) for name, kind in _columns(connection)]
            return {"row_count": _row_count(connection), "columns": columns}
    except (duckdb.OutOfMemoryException, MemoryError) as error:
        raise PermanentError("file_too_large", "there is too much data to profile in memory") from error


def _column_profile(connection: duckdb.DuckDBPyConnection, name: str, kind: str) -> dict[str, Any]:
    quoted = '"' + name.replace('"', '""') + '"'
    extremes = "NULL, NULL" if _NESTED.match(kind) else f"min({quoted}), max({quoted})"
    is_numeric = _NUMERIC.match(kind) is not None and not _NESTED.match(kind)
    mean = f"avg({quoted})" if is_numeric else "NULL"
    found = connection.execute(
        f"SELECT count({quoted}), count(DISTINCT {quoted}), {extremes}, {mean} FROM data"
    ).fetchone()
    non_null, distinct, low, high, average = (_json_value(value) for value in found or (0, 0, None, None, None))
    profile = {"name": name, "type": kind, "non_null": non_null, "distinct": distinct}
    profile |= {"min": _clipped(low), "max": _clipped(high)}
    return profile | {"mean": average} if is_numeric else profile


def _clipped(value: Any) -> Any:
    return value[:MAX_EXTREME_CHARS] if isinstance(value, str) else value


def _columns(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in connection.execute("DESCRIBE data").fetchall()]


def _row_count(connection: duckdb.DuckDBPyConnection) -> int:
    found = connection.execute("SELECT count(*) FROM data").fetchone()
    return int(found[0]) if found else 0


@contextmanager
def _time_limit(connection: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[None]:
    """Raises PermanentError timed_out if what runs on the connection meanwhile takes longer."""
    import duckdb

    finished, expired = threading.Event(), threading.Event()

    def interrupt() -> None:
        if not finished.wait(seconds):
            expired.set()
        while not finished.wait(0.05):  # again: between two statements an interrupt has no effect
            connection.interrupt()

    watch = threading.Thread(target=interrupt, daemon=True)
    watch.start()
    try:
        yield
    except duckdb.InterruptException as error:
        if not expired.is_set():
            raise
        raise PermanentError("timed_out", f"reading or querying the data took longer than {seconds:g} s") from error
    finally:
        finished.set()
        watch.join()


@contextmanager
def _memory_limit() -> Iterator[None]:
    """Bound the process's memory: DuckDB's own limit does not cover strings that functions such as repeat() build."""
    import resource

    statm = Path("/proc/self/statm")
    if not statm.exists():  # only Linux tells, and only Linux enforces it
        yield
        return
    used_bytes = int(statm.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = used_bytes + MAX_EXTRA_MEMORY_BYTES
    unlimited = resource.RLIM_INFINITY
    bound = min(limit for limit in (wanted, soft, hard) if limit != unlimited)
    resource.setrlimit(resource.RLIMIT_AS, (bound, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _json_value(value: Any) -> Any:
    """The nearest JSON value: numbers that are not finite become null, dates ISO 8601, bytes base64."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return {str(name): _json_value(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    return str(value)


def _duckdb_error() -> type[Exception]:
    import duckdb

    return cast("type[Exception]", duckdb.Error)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["not enough memory"])[0][:500]


def _without_paths(message: str, *, allowed: str) -> str:
    """The message without this machine's paths; what the client wrote itself may stay."""
    return re.sub(r"/[\w.-]+(?:/[\w.-]*)+", lambda found: found[0] if found[0] in allowed else "(path)", message)
