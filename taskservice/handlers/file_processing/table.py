"""Tables: a CSV, JSON, NDJSON or Parquet file as DuckDB reads it, its columns and rows, and its conversion.

Must not know what the table is for. DuckDB is imported where it is used.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from taskservice.context import StoredFile, TaskContext
from taskservice.handlers.data_processing.interruption import run_interruptibly
from taskservice.handlers.file_processing.failures import too_large, unsupported
from taskservice.handlers.file_processing.product import store

if TYPE_CHECKING:
    import duckdb

MAX_ROWS = 5_000_000

_AS_IT_IS = "compression = 'none', hive_partitioning = false"  # whatever the path may look like
TABLE_READERS = {
    "text/csv": f"read_csv(?, {_AS_IT_IS})",
    "text/tab-separated-values": f"read_csv(?, {_AS_IT_IS})",
    "application/json": f"read_json(?, {_AS_IT_IS})",
    "application/x-ndjson": f"read_json(?, format = 'newline_delimited', {_AS_IT_IS})",
    "application/vnd.apache.parquet": "read_parquet(?, hive_partitioning = false)",
}
TABLE_WRITERS = {
    "csv": "FORMAT csv, HEADER true",
    "json": "FORMAT json, ARRAY true",
    "ndjson": "FORMAT json",
    "parquet": "FORMAT parquet",
}

T = TypeVar("T")


def table_facts(source: StoredFile, context: TaskContext) -> dict[str, Any]:
    with _opened_table(source, context) as table:
        return table.facts()


def convert_table(wanted: str, output: str, source: StoredFile, context: TaskContext) -> dict[str, Any]:
    """`{columns, rows, output}`."""
    with _opened_table(source, context) as table:
        facts = table.facts()
        with table.written_as(wanted) as product:
            return {**facts, "output": store(output, product, context)}


@dataclass(frozen=True, slots=True)
class _Table:
    """A file as DuckDB reads it, by a link in a directory of its own."""

    connection: duckdb.DuckDBPyConnection
    reader: str
    path: Path
    on_wait: Callable[[], None]

    def facts(self) -> dict[str, Any]:
        """`{columns, rows}`. Raises PermanentError: file_too_large."""
        columns = self._ask(f"SELECT * FROM {self.reader} LIMIT 0", lambda found: found.description or [])
        limited = f"SELECT count(*) FROM (SELECT 1 FROM {self.reader} LIMIT {MAX_ROWS + 1})"
        rows: int = self._ask(limited, lambda found: (found.fetchone() or (0,))[0])
        if rows > MAX_ROWS:
            raise too_large(f"a table may have at most {MAX_ROWS} rows")
        return {"columns": [column[0] for column in columns], "rows": rows}

    @contextmanager
    def written_as(self, wanted: str) -> Iterator[BinaryIO]:
        product = self.path.with_name("product")
        statement = f"COPY (SELECT * FROM {self.reader}) TO '{_quoted(product)}' ({TABLE_WRITERS[wanted]})"
        self._ask(statement, lambda found: None)
        with product.open("rb") as content:
            yield content

    def _ask(self, statement: str, read: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        return run_interruptibly(
            self.connection,
            lambda: read(self.connection.execute(statement, [str(self.path)])),
            on_wait=self.on_wait,
        )


_DUCKDB_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "threads": 2,
    "memory_limit": "512MB",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


@contextmanager
def _opened_table(source: StoredFile, context: TaskContext) -> Iterator[_Table]:
    import duckdb

    reader = TABLE_READERS.get(source.mime_type)
    if reader is None:
        raise unsupported(f"{source.mime_type} is not a table this task can read")
    with (
        context.files.local_copy(source.filename) as original,
        tempfile.TemporaryDirectory(prefix="taskservice-") as directory,
    ):
        path = Path(directory, "source")  # DuckDB would take a * in an uploaded file's own name for a pattern
        path.symlink_to(Path(original).absolute())
        try:
            with duckdb.connect(":memory:", config=_DUCKDB_CONFIG) as connection:
                connection.execute(f"SET temp_directory = '{_quoted(Path(directory, 'spill'))}'")
                yield _Table(connection, reader, path, partial(context.progress, 0, source.size_bytes, "bytes"))
        except duckdb.OutOfMemoryException as error:
            raise too_large(f"{source.filename!r} takes too much memory as a table") from error
        except duckdb.Error as error:
            raise unsupported(f"{source.filename!r} cannot be read as a table") from error


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
