"""The answer to one SQL query over the table `data`.

Must not know where the data came from; the database is locked before it gets here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from taskservice.errors import PermanentError
from taskservice.handlers.data_processing.database import Database, first_line, without_paths
from taskservice.handlers.data_processing.values import json_value

if TYPE_CHECKING:
    import duckdb

MAX_RESULT_ROWS = 1000
MAX_RESULT_BYTES = 2**20  # of the rows as JSON


def answer(database: Database, query: str) -> dict[str, Any]:
    """`{columns: [name], rows: [[value]], row_count, truncated}`.

    Raises PermanentError: query_not_allowed, query_failed, result_too_large, timed_out.
    """
    import duckdb

    try:
        names, rows = database.run(lambda: _rows(database.connection, query))
    except duckdb.TransactionException as error:
        raise PermanentError("query_not_allowed", "the query may only read, not write") from error
    except duckdb.PermissionException as error:
        raise PermanentError("query_not_allowed", "the query may use the table data only, no files") from error
    except (duckdb.Error, MemoryError) as error:
        raise PermanentError("query_failed", without_paths(first_line(error), allowed=query)) from error
    shown = rows[:MAX_RESULT_ROWS]
    return {"columns": names, "rows": shown, "row_count": len(shown), "truncated": len(rows) > len(shown)}


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[list[str], list[list[Any]]]:
    connection.execute(_only_select(connection, query))
    return [column[0] for column in connection.description or ()], _fetch(connection)


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
        rows.append([json_value(value) for value in row])
        size_bytes += len(json.dumps(rows[-1]))
        if size_bytes > MAX_RESULT_BYTES:
            raise PermanentError("result_too_large", f"the query's rows have more than {MAX_RESULT_BYTES} bytes")
    return rows
