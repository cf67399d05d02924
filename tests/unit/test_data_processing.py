"""The rules of task type `data_processing`: what validates, what it computes, and what a query can never do.

Must not need a broker, Redis or the network.
"""

from __future__ import annotations

import json
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import pytest
from pydantic import ValidationError

from taskservice.context import StoredFile
from taskservice.errors import PermanentError, StoredFileNotFound, TaskServiceError
from taskservice.handlers import data_processing as module
from taskservice.handlers import load_task_types
from taskservice.handlers.data_processing import (
    MAX_FILE_BYTES,
    MAX_QUERY_CHARS,
    DataProcessingParameters,
    process_data,
    summarize_file,
    summarize_table,
)
from tests.support.context import PlainContext

ENDLESS = "SELECT count(*) FROM range(1000000) a, range(1000000) b"
ROWS = [{"city": "Oslo", "n": 1}, {"city": "Rome", "n": 4}, {"city": "Oslo", "n": None}]


class DirectoryFiles:
    """The uploaded files, in a directory of the test's own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self, filename: str) -> BinaryIO:
        return self._path(filename).open("rb")

    def size_bytes(self, filename: str) -> int:
        return self._path(filename).stat().st_size

    @contextmanager
    def local_copy(self, filename: str) -> Iterator[str]:
        yield str(self._path(filename))

    def save(self, filename: str, content: BinaryIO) -> StoredFile:
        raise NotImplementedError

    def stat(self, filename: str) -> StoredFile:
        raise NotImplementedError

    def list(self) -> Iterator[StoredFile]:
        raise NotImplementedError

    def delete(self, filename: str) -> None:
        raise NotImplementedError

    def _path(self, filename: str) -> Path:
        path = self._directory / filename
        if not path.exists():
            raise StoredFileNotFound(filename)
        return path


class Stopped(TaskServiceError):
    """What a context's progress raises when the task is to end, or a signal handler in the middle of the work."""


class Context(PlainContext):
    """A world with files in it, that remembers the progress it was told."""

    def __init__(self, directory: Path) -> None:
        self.files = DirectoryFiles(directory)
        self.steps: list[tuple[int, int]] = []
        self.stops_after = 10_000

    def progress(self, current: int, total: int, message: str = "") -> None:
        self.steps.append((current, total))
        if len(self.steps) > self.stops_after:
            raise Stopped


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(tmp_path)


def run(context: Context, **parameters: Any) -> dict[str, Any]:
    result = dict(process_data(DataProcessingParameters.model_validate(parameters), context))
    json.dumps(result, allow_nan=False)
    return result


def failure(context: Context, **parameters: Any) -> PermanentError:
    with pytest.raises(PermanentError) as caught:
        run(context, **parameters)
    return caught.value


# Parameters


@pytest.mark.parametrize(
    "data",
    [5, 1.5, True, None, [1, "a"], [1, True], [1, {}], ["a"], [[1]], [None], [float("nan")], [float("inf")],
     {"a": [{"b": float("nan")}]}, [{"a": 10**30}], [10**400], "x" * (2**20 + 1), {str(n): n for n in range(1001)}],
)  # fmt: skip
def test_data_of_no_known_kind_is_refused_at_data(data: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        DataProcessingParameters.model_validate({"data": data})

    assert [error["loc"] for error in caught.value.errors()] == [("data",)]


@pytest.mark.parametrize("data", ["", "text", [], [1, 2.5], [{}], [{"a": [1]}], {}, {"a": None}])
def test_data_of_a_known_kind_is_accepted_unchanged(data: Any) -> None:
    parameters = DataProcessingParameters.model_validate({"data": data})

    assert parameters.model_dump(mode="json", exclude_unset=True) == {"data": data}


@pytest.mark.parametrize(
    "parameters",
    [{}, {"data": "x", "file": "a.csv"}, {"query": "SELECT 1"}, {"data": "x", "other": 1}, {"file": ""}, {"file": None},
     {"file": "../a.csv"}, {"file": "/a.csv"}, {"file": "a\0.csv"}, {"data": "x", "query": ""}, {"file": 5},
     {"data": "x", "query": "x" * (MAX_QUERY_CHARS + 1)}],
)  # fmt: skip
def test_other_combinations_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DataProcessingParameters.model_validate(parameters)


def test_schema_offers_the_four_kinds_and_one_source() -> None:
    schema = DataProcessingParameters.model_json_schema()

    assert len(schema["properties"]["data"]["anyOf"]) == 4
    assert schema["oneOf"] == [{"required": ["data"]}, {"required": ["file"]}]
    assert not any("default" in described for described in schema["properties"].values())
    assert schema["additionalProperties"] is False


def test_importing_the_parameters_does_not_import_duckdb() -> None:
    code = "import sys, taskservice.handlers.data_processing; sys.exit('duckdb' in sys.modules)"

    assert (
        subprocess.run([sys.executable, "-c", code], cwd=Path(module.__file__).parents[3], check=False).returncode == 0
    )


# Text and numbers


def test_text_is_counted(context: Context) -> None:
    result = run(context, data="Red fish, blue fish.\nONE fish!\n")

    assert result == {
        "characters": 31,
        "words": 6,
        "lines": 2,
        "unique_words": 4,
        "top_words": [{"word": "fish", "count": 3}] + [{"word": word, "count": 1} for word in ("blue", "one", "red")],
    }


def test_words_of_any_script_are_whole_words(context: Context) -> None:
    result = run(context, data="«Straße» STRASSE हिन्दी हिन्दी! caf\u00e9 cafe\u0301 — don't")

    counts = {item["word"]: item["count"] for item in result["top_words"]}
    assert counts == {"strasse": 2, "हिन्दी": 2, "caf\u00e9": 2, "don't": 1}
    assert (result["words"], result["unique_words"]) == (7, 4)


def test_empty_text_counts_nothing(context: Context) -> None:
    assert run(context, data="") == {"characters": 0, "words": 0, "lines": 0, "unique_words": 0, "top_words": []}


@pytest.mark.parametrize("numbers", [[3, 1, 2], [1.5, 2.25, -7, 1e6, 3], list(range(101)), [0.1] * 10])
def test_numbers_agree_with_the_statistics_module(context: Context, numbers: list[float]) -> None:
    result = run(context, data=numbers)

    assert result["count"] == len(numbers)
    assert (result["min"], result["max"]) == (min(numbers), max(numbers))
    assert result["mean"] == pytest.approx(statistics.fmean(numbers))
    assert result["median"] == statistics.median(numbers)
    assert result["stdev"] == pytest.approx(statistics.stdev(numbers))
    assert result["p95"] == pytest.approx(statistics.quantiles(numbers, n=100, method="inclusive")[94])
    assert result["sum"] == pytest.approx(sum(numbers))


def test_too_few_or_too_large_numbers_give_null(context: Context) -> None:
    assert run(context, data=[7])["stdev"] is None
    assert run(context, data=[7])["p95"] == 7
    assert run(context, data=[]) | {"count": 0, "sum": 0} == {"count": 0, "sum": 0} | dict.fromkeys(
        ("min", "max", "mean", "median", "stdev", "p95")
    )
    assert run(context, data=[1.7e308, 1.7e308])["sum"] is None


# Rows


def test_rows_are_profiled_by_column(context: Context) -> None:
    result = run(context, data=ROWS)

    assert result["row_count"] == 3
    assert result["columns"] == [
        {"name": "city", "type": "VARCHAR", "non_null": 3, "distinct": 2, "min": "Oslo", "max": "Rome"},
        {"name": "n", "type": "BIGINT", "non_null": 2, "distinct": 2, "min": 1, "max": 4, "mean": 2.5},
    ]


@pytest.mark.parametrize(
    "row", [{"a": 1}, {}, {"a": None}, {"a": {"b": [1]}}, {"a": [1.5], "": 1}, {'q"uote': "x", "Q": 1, "q": 2}]
)
def test_an_object_is_one_row(context: Context, row: dict[str, Any]) -> None:
    assert run(context, data=row)["row_count"] == 1


def test_rows_need_not_be_alike(context: Context) -> None:
    result = run(context, data=[{"a": 1}, {"a": "x"}, {"b": {"c": 1}}, {}])

    assert result["row_count"] == 4
    assert [column["name"] for column in result["columns"]] == ["a", "b"]


# Queries


def test_a_query_answers_over_the_rows(context: Context) -> None:
    result = run(context, data=ROWS, query="SELECT city, count(*) AS n FROM data GROUP BY city ORDER BY city;")

    assert result == {
        "columns": ["city", "n"],
        "rows": [["Oslo", 2], ["Rome", 1]],
        "row_count": 2,
        "truncated": False,
    }


def test_a_query_sees_numbers_as_value_and_text_as_line(context: Context) -> None:
    assert run(context, data=[1, 2, 2**63], query="SELECT max(value) FROM data")["rows"] == [[2**63]]
    assert run(context, data=[0.5, 2], query="SELECT sum(value) FROM data")["rows"] == [[2.5]]
    assert run(context, data=[], query="SELECT value FROM data")["rows"] == []
    assert run(context, data="2024-01-01\nb", query="FROM data")["rows"] == [["2024-01-01"], ["b"]]


def test_a_long_answer_is_truncated(context: Context) -> None:
    exact = run(context, data=[1], query="SELECT * FROM range(1000)")
    longer = run(context, data=[1], query="SELECT * FROM range(1000000000000)")

    assert (exact["row_count"], exact["truncated"]) == (1000, False)
    assert (longer["row_count"], longer["truncated"], len(longer["rows"])) == (1000, True, 1000)


def test_every_kind_of_value_becomes_json(context: Context) -> None:
    query = """SELECT DATE '2024-01-02', TIMESTAMP '2024-01-02 03:04:05', TIMESTAMPTZ '2024-01-02 03:04:05+00',
        TIME '03:04:05', 1.25::DECIMAL(5, 2), 'nan'::DOUBLE, '\\xAA'::BLOB, {'a': [DATE '2024-01-02']}, MAP {1: 2},
        170141183460469231731687303715884105727::HUGEINT, INTERVAL 1 DAY, TRUE, NULL,
        '00000000-0000-0000-0000-000000000001'::UUID"""

    row = run(context, data=[1], query=query)["rows"][0]

    assert row[:6] == ["2024-01-02", "2024-01-02T03:04:05", "2024-01-02T03:04:05+00:00", "03:04:05", 1.25, None]
    assert row[6:10] == ["qg==", {"a": ["2024-01-02"]}, {"1": 2}, "170141183460469231731687303715884105727"]
    assert row[10:] == ["1 day, 0:00:00", True, None, "00000000-0000-0000-0000-000000000001"]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM 'https://127.0.0.1/a.parquet'",
        "SELECT * FROM duckdb_extensions()",
        "COPY data TO '/tmp/stolen.csv'",
        "COPY (SELECT 1) TO '/tmp/stolen.csv'",
        "EXPORT DATABASE '/tmp/stolen'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "ATTACH '/tmp/other.db'",
        "PRAGMA version",
        "CALL pragma_version()",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "INSERT INTO data VALUES (1)",
        "WITH more AS (INSERT INTO data VALUES (1) RETURNING *) SELECT * FROM more",
        "DROP TABLE data",
        "CREATE TABLE other AS SELECT 1",
        "EXPLAIN ANALYZE SELECT 1",
        "COMMIT",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE data",
        "-- nothing",
    ],
)
def test_a_query_that_is_not_one_select_over_the_data_is_not_allowed(context: Context, query: str) -> None:
    error = failure(context, data=[1], query=query)

    assert (error.code, error.retryable) == ("query_not_allowed", False)
    assert ".duckdb" not in error.message


@pytest.mark.parametrize(
    "query",
    ["SELEC 1", "SELECT nope FROM data", "SELECT * FROM nope", "SELECT * FROM '/etc/passwd'", "SELECT 'a'::INTEGER",
     "SELECT * FROM ROWS", "SELECT $1", "SELECT st_point(1, 2)", "SELECT getenv('HOME')", "SELECT * FROM context"],
)  # fmt: skip
def test_a_query_that_does_not_work_fails(context: Context, query: str) -> None:
    error = failure(context, data=[1], query=query)

    assert error.code == "query_failed"
    assert error.message
    assert str(Path.home()) not in error.message


def test_the_settings_a_query_can_read_name_no_path(context: Context) -> None:
    query = "SELECT name FROM duckdb_settings() WHERE value LIKE '/%'"

    assert run(context, data=[1], query=query)["rows"] == []


def test_an_endless_query_is_timed_out() -> None:
    query = "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"

    with pytest.raises(PermanentError) as caught:
        summarize_table([1], query, time_limit_s=0.2)

    assert caught.value.code == "timed_out"


@pytest.mark.parametrize(
    "query",
    ["SELECT length(repeat('x', 3000000000))", "SELECT list(range) FROM range(1000000000)",
     "SELECT range, repeat('x', 100) FROM range(1000000000) ORDER BY hash(range)"],
)  # fmt: skip
def test_a_greedy_query_gets_neither_memory_nor_disk(context: Context, query: str) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)

    error = failure(context, data=[1], query=query)

    assert error.code == "query_failed"
    assert error.message
    assert resource.getrlimit(resource.RLIMIT_AS) == before


GROWTH = """
import psutil
from taskservice.errors import PermanentError
from taskservice.handlers.data_processing import summarize_table

def rss():
    return psutil.Process().memory_info().rss

summarize_table([1], "SELECT 1")
before, most = rss(), 0
for _ in range(3):
    try:
        summarize_table([1], "SELECT * FROM range(100000000) ORDER BY hash(range)")
    except PermanentError:
        most = max(most, rss() - before)
print(most)
"""


def test_the_memory_of_a_greedy_query_is_given_back_at_once() -> None:
    """In a process of its own: this one has loaded DuckDB in another way."""
    grown = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True, timeout=60)

    assert 0 < int(grown.stdout) < 150 * 2**20


def test_an_answer_of_too_many_bytes_is_refused(context: Context) -> None:
    assert failure(context, data=[1], query="SELECT repeat('x', 2000000)").code == "result_too_large"


# Files


@pytest.mark.parametrize(
    ("filename", "content"),
    [
        ("a.csv", "city,n\nOslo,1\nRome,4\n"),
        ("semicolons.CSV", "city;n\nOslo;1\nRome;4\n"),
        ("a.json", '[{"city": "Oslo", "n": 1}, {"city": "Rome", "n": 4}]'),
        ("a.ndjson", '{"city": "Oslo", "n": 1}\n{"city": "Rome", "n": 4}\n'),
        ("a.jsonl", '{"city": "Oslo", "n": 1}\n{"city": "Rome", "n": 4}\n'),
        ("odd [1] * name=x.csv", "city,n\nOslo,1\nRome,4\n"),
    ],
)
def test_a_file_is_profiled(context: Context, tmp_path: Path, filename: str, content: str) -> None:
    (tmp_path / filename).write_text(content, encoding="utf-8")

    result = run(context, file=filename)

    assert result["row_count"] == 2
    assert [(column["name"], column["max"]) for column in result["columns"]] == [("city", "Rome"), ("n", 4)]
    assert context.steps[-1] == (3, 3)


def test_a_parquet_file_is_queried(context: Context, tmp_path: Path) -> None:
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"COPY (SELECT range AS n FROM range(5000)) TO '{tmp_path / 'a.parquet'}'")

    assert run(context, file="a.parquet", query="SELECT sum(n) FROM data")["rows"] == [[12497500]]


def test_a_name_with_a_star_reads_no_other_file(context: Context, tmp_path: Path) -> None:
    for name in ("x*.csv", "xy.csv"):
        (tmp_path / name).write_text("a,b\n1,2\n", encoding="utf-8")

    assert run(context, file="x*.csv")["row_count"] == 1


@pytest.mark.parametrize(
    ("filename", "content"),
    [
        ("ragged.csv", b"a,b\n1,2\n3,4,5\n6,7\n"),
        ("unclosed.csv", b'a,b\n1,2\n3,"4\n5,6\n'),
        ("late.csv", b"a,b\n" + b"1,2\n" * 30_000 + b"1,2,3\n"),
        ("binary.csv", bytes(range(256)) * 50),
        ("latin.csv", b"a,b\n\xff\xfe,2\n"),
        ("empty.csv", b""),
        ("broken.json", b'{"a": 1'),
        ("broken.ndjson", b'{"a": 1}\n{"a"\n'),
        ("broken.parquet", b"PAR1 but not really PAR1"),
        ("a.xlsx", b"PK"),
        ("none", b"a,b\n1,2\n"),
    ],
)
def test_a_file_that_cannot_be_read_is_unsupported(
    context: Context, tmp_path: Path, filename: str, content: bytes
) -> None:
    (tmp_path / filename).write_bytes(content)

    error = failure(context, file=filename)

    assert error.code == "unsupported_file"
    assert filename in error.message
    assert str(tmp_path) not in error.message
    assert tempfile.gettempdir() + "/" not in error.message


def test_a_missing_file_is_not_found(context: Context) -> None:
    assert failure(context, file="nowhere.csv").code == "file_not_found"


def test_a_file_of_too_many_bytes_is_too_large(context: Context, tmp_path: Path) -> None:
    with (tmp_path / "big.csv").open("wb") as big:
        big.truncate(MAX_FILE_BYTES + 1)

    assert failure(context, file="big.csv").code == "file_too_large"


def test_a_file_of_too_many_rows_is_too_large(context: Context, tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_bytes(b"a\n" + b"1\n" * 1_000_001)

    assert failure(context, file="long.csv").code == "file_too_large"


def test_a_query_over_a_file_is_timed_out_too(context: Context, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n", encoding="utf-8")

    with pytest.raises(PermanentError) as caught:
        summarize_file("a.csv", ENDLESS, context, time_limit_s=0.5)

    assert caught.value.code == "timed_out"


def test_a_query_over_rows_ends_as_soon_as_the_task_is_to_stop(context: Context) -> None:
    context.stops_after = 1

    with pytest.raises(Stopped):
        run(context, data=ROWS, query=ENDLESS)


def test_a_query_over_a_file_ends_as_soon_as_the_task_is_to_stop(context: Context, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    context.stops_after = 3

    with pytest.raises(Stopped):
        run(context, file="a.csv", query=ENDLESS)

    assert context.steps[-1] == (1, 3)


def test_what_a_signal_raises_during_a_query_stays_what_it_is(context: Context) -> None:
    def stop(*_: object) -> None:
        raise Stopped

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(Stopped):
            run(context, data=ROWS, query=ENDLESS)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_the_example_works_as_it_stands(context: Context) -> None:
    known = load_task_types()["data_processing"]

    result = known.handler(known.parameters_model.model_validate(known.example), context)

    assert result["words"] == 2
    assert (known.max_retries, known.time_limit_s) == (3, 300)
