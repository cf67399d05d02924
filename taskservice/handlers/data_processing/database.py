"""The table `data` in a DuckDB of its own: in memory, locked down, and bounded in rows, memory and time.

Must not know what the table is asked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from taskservice.handlers.data_processing.interruption import run_interruptibly

if TYPE_CHECKING:
    import duckdb

MAX_FILE_ROWS = 1_000_000
MAX_EXTRA_MEMORY_BYTES = 2**30  # of address space, beyond what the process has when the work starts

# Memory goes back as soon as it is free; else a child may keep half a GiB of its last query until the next one. Read by
# jemalloc, DuckDB's allocator, when the library is loaded.
os.putenv("DUCKDB_JE_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Database:
    """One table, `data`. First `load` it, then `lock` it, then ask."""

    connection: duckdb.DuckDBPyConnection
    time_limit_s: float  # for each `run`, and for `load`
    on_wait: Callable[[], None]  # called several times a second meanwhile; what it raises stops the work

    def load(self, path: Path, reader: str) -> None:
        """At most one row more than a table may have, which tells that there are more."""
        statement = f"CREATE TABLE data AS SELECT * FROM {reader} LIMIT {MAX_FILE_ROWS + 1}"
        self.run(lambda: self.connection.execute(statement, [str(path)]))

    def lock(self) -> None:
        """From here on: no files, no network, no other settings, and no writing, not even from a CTE."""
        self.connection.execute("SET enable_external_access = false")
        self.connection.execute("SET lock_configuration = true")
        self.connection.execute("BEGIN TRANSACTION READ ONLY")

    def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises. Raises PermanentError timed_out, MemoryError, and what `on_wait` raises."""
        with _memory_limit():
            return run_interruptibly(self.connection, work, on_wait=self.on_wait, time_limit_s=self.time_limit_s)

    def columns(self) -> list[tuple[str, str]]:
        """Each column's name and DuckDB type."""
        return [(row[0], row[1]) for row in self.connection.execute("DESCRIBE data").fetchall()]

    def row_count(self) -> int:
        found = self.connection.execute("SELECT count(*) FROM data").fetchone()
        return int(found[0]) if found else 0


@contextmanager
def opened_database(*, time_limit_s: float, on_wait: Callable[[], None]) -> Iterator[Database]:
    """Empty; it never spills to disk and never sees Python's variables."""
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
    with duckdb.connect(":memory:", config=config) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield Database(connection, time_limit_s, on_wait)


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


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["not enough memory"])[0][:500]


def without_paths(message: str, *, allowed: str) -> str:
    """The message without this machine's paths; what the client wrote itself may stay."""
    return re.sub(r"/[\w.-]+(?:/[\w.-]*)+", lambda found: found[0] if found[0] in allowed else "(path)", message)
