"""The profile of the table `data`: of each column its type, how full it is, and its extremes.

Must not know where the data came from.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from taskservice.errors import PermanentError
from taskservice.handlers.data_processing.database import Database
from taskservice.handlers.data_processing.values import json_value

if TYPE_CHECKING:
    import duckdb

MAX_EXTREME_CHARS = 200  # of a column's smallest and largest text

_NUMERIC = re.compile(r"(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|U?INT\d+|FLOAT|DOUBLE|DECIMAL)\b")
_NESTED = re.compile(r"STRUCT|MAP|UNION|VARIANT|JSON|\"NULL\"|GEOMETRY|.*\]$")


def profile(database: Database) -> dict[str, Any]:
    """`{row_count, columns: [{name, type, non_null, distinct, min, max, mean?}]}`; `mean` only of numbers.

    Raises PermanentError: file_too_large, timed_out.
    """
    import duckdb

    try:
        return database.run(lambda: {"row_count": database.row_count(), "columns": _column_profiles(database)})
    except (duckdb.OutOfMemoryException, MemoryError) as error:
        raise PermanentError("file_too_large", "there is too much data to profile in memory") from error


def _column_profiles(database: Database) -> list[dict[str, Any]]:
    return [_column_profile(database.connection, name, kind) for name, kind in database.columns()]


def _column_profile(connection: duckdb.DuckDBPyConnection, name: str, kind: str) -> dict[str, Any]:
    quoted = '"' + name.replace('"', '""') + '"'
    extremes = "NULL, NULL" if _NESTED.match(kind) else f"min({quoted}), max({quoted})"
    is_numeric = _NUMERIC.match(kind) is not None and not _NESTED.match(kind)
    mean = f"avg({quoted})" if is_numeric else "NULL"
    found = connection.execute(
        f"SELECT count({quoted}), count(DISTINCT {quoted}), {extremes}, {mean} FROM data"
    ).fetchone()
    non_null, distinct, low, high, average = (json_value(value) for value in found or (0, 0, None, None, None))
    described = {"name": name, "type": kind, "non_null": non_null, "distinct": distinct}
    described |= {"min": _clipped(low), "max": _clipped(high)}
    return described | {"mean": average} if is_numeric else described


def _clipped(value: Any) -> Any:
    return value[:MAX_EXTREME_CHARS] if isinstance(value, str) else value
