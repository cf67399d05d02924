"""API.md, "The three task types": what each takes and gives, and the codes of their failures.

Each docstring quotes the clause that the test shows; "…" stands between parts of one.
"""

from __future__ import annotations

import io
import statistics
import uuid
import zipfile
from typing import Any

import pytest
from PIL import Image
from pypdf import PdfWriter

from tests.contract.client import Client, pointers

ROWS = [{"city": "Dhaka", "people": 10}, {"city": "Khulna", "people": 3}]
MAIL = {"subject": "s", "body": "b"}


def result(client: Client, task_type: str, parameters: dict[str, Any]) -> dict[str, Any]:
    task = client.run(parameters, task_type=task_type)
    assert task["status"] == "succeeded", task["error"]
    found: dict[str, Any] = task["result"]
    return found


def process(client: Client, **parameters: Any) -> dict[str, Any]:
    return result(client, "data_processing", parameters)


def handle(client: Client, content: bytes, suffix: str, **options: Any) -> dict[str, Any]:
    return result(client, "file_processing", {"filename": uploaded(client, content, suffix), **options})


def uploaded(client: Client, content: bytes, suffix: str) -> str:
    name = f"{uuid.uuid4().hex}{suffix}"
    assert client.upload(name, content).status_code == 201
    return name


def picture(image_format: str = "png") -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(content, image_format)
    return content.getvalue()


def archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as written:
        written.writestr("a.txt", "one")
        written.writestr("b.txt", "two")
    return content.getvalue()


def document() -> bytes:
    content, pdf = io.BytesIO(), PdfWriter()
    for _ in range(3):
        pdf.add_blank_page(100, 100)
    pdf.write(content)
    return content.getvalue()


def test_text_is_counted(client: Client) -> None:
    """`data`: a string … text: characters, words, lines, unique_words, top_words"""
    found = process(client, data="One two,\ntwo three.")

    assert found == {
        "characters": 19, "words": 4, "lines": 2, "unique_words": 3,
        "top_words": [{"word": "two", "count": 2}, {"word": "one", "count": 1}, {"word": "three", "count": 1}],
    }  # fmt: skip


def test_numbers_are_summarised(client: Client) -> None:
    """an array of numbers … numbers: count, min, max, mean, median, stdev, p95, sum"""
    numbers = [1, 2, 3, 4, 100.5]
    found = process(client, data=numbers)

    assert found.keys() == {"count", "min", "max", "mean", "median", "stdev", "p95", "sum"}
    assert (found["count"], found["min"], found["max"], found["median"], found["sum"]) == (5, 1, 100.5, 3, 110.5)
    assert found["mean"] == pytest.approx(22.1)
    assert found["stdev"] == pytest.approx(statistics.stdev(numbers))
    assert 4 < found["p95"] < 100.5


@pytest.mark.parametrize(("data", "count"), [(ROWS, 2), (ROWS[0], 1)])
def test_rows_and_objects_are_profiled(client: Client, data: Any, count: int) -> None:
    """an array of objects (rows) or an object … rows/file: `row_count` and a profile of each column"""
    found = process(client, data=data)

    assert found["row_count"] == count
    assert [column["name"] for column in found["columns"]] == ["city", "people"]
    assert found["columns"][1]["max"] == 10


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (b"city,people\nDhaka,10\nKhulna,3\n", ".csv"),
        (b'[{"city": "Dhaka", "people": 10}, {"city": "Khulna", "people": 3}]', ".json"),
        (b'{"city": "Dhaka", "people": 10}\n{"city": "Khulna", "people": 3}\n', ".ndjson"),
    ],
)
def test_uploaded_tables_are_profiled(client: Client, content: bytes, suffix: str) -> None:
    """or `file`: an uploaded CSV, JSON, NDJSON"""
    found = process(client, file=uploaded(client, content, suffix))

    assert (found["row_count"], [column["name"] for column in found["columns"]]) == (2, ["city", "people"])


def test_an_uploaded_parquet_file_is_profiled(client: Client) -> None:
    """or Parquet"""
    csv = uploaded(client, b"city,people\nDhaka,10\nKhulna,3\n", ".csv")
    made = result(client, "file_processing", {"filename": csv, "operation": "convert", "format": "parquet"})

    found = process(client, file=made["output"]["filename"])

    assert (found["row_count"], [column["name"] for column in found["columns"]]) == (2, ["city", "people"])


def test_sql_is_answered(client: Client) -> None:
    """optional `query`: SQL over the table `data` … with `query`: `columns` (names), `rows`, `row_count`,
    `truncated`
    """
    found = process(client, data=ROWS, query="select city, people * 2 as twice from data order by people")
    many = process(client, data=ROWS, query="select range as n from range(100000)")

    assert found == {
        "columns": ["city", "twice"], "rows": [["Khulna", 6], ["Dhaka", 20]], "row_count": 2, "truncated": False,
    }  # fmt: skip
    assert many["truncated"] is True
    assert many["row_count"] == len(many["rows"]) < 100_000


def test_data_or_a_file_and_nothing_else(client: Client) -> None:
    """data_processing | `data`: … or `file`"""
    assert pointers(client.submit({}, task_type="data_processing")) == ["/parameters"]
    assert pointers(client.submit({"data": "x", "file": "x.csv"}, task_type="data_processing")) == ["/parameters"]
    for other in (1, True, ["text"], [1, {"a": 1}]):
        assert pointers(client.submit({"data": other}, task_type="data_processing")) == ["/parameters/data"]


def test_a_mail_is_sent(client: Client) -> None:
    """email_sending | `to` (address or list), optional `cc`, `bcc`, `reply_to`, `subject`, `body`, `html`,
    `attachments` (uploaded files)
    """
    parameters = {
        "to": ["ada@example.com"], "cc": "bob@example.com", "bcc": ["eve@example.com"], "reply_to": "me@example.com",
        "subject": "Report", "body": "text", "html": "<p>text</p>", "attachments": [uploaded(client, b"x", ".txt")],
    }  # fmt: skip

    found = result(client, "email_sending", parameters)
    plain = result(client, "email_sending", {**MAIL, "to": "ada@example.com"})

    assert found["accepted"] == ["ada@example.com", "bob@example.com", "eve@example.com"]
    assert plain["accepted"] == ["ada@example.com"]


def test_a_mail_tells_who_was_refused(client: Client) -> None:
    """message_id, accepted addresses, refused addresses with SMTP code"""
    found = result(client, "email_sending", {**MAIL, "to": ["ada@example.com", "unknown@example.com"]})

    assert found["message_id"].startswith("<")
    assert found["accepted"] == ["ada@example.com"]
    assert [(one["address"], one["code"]) for one in found["refused"]] == [("unknown@example.com", 550)]


def test_any_file_is_inspected(client: Client) -> None:
    """file_processing | `filename` of an uploaded file; `operation`: `inspect` (default) … size_bytes, mime_type,
    sha256 and what the kind of file offers
    """
    found = handle(client, b"\x00\x01\x02", ".bin")

    assert (found["operation"], found["size_bytes"], found["mime_type"]) == ("inspect", 3, "application/octet-stream")
    assert len(found["sha256"]) == 64


@pytest.mark.parametrize(
    ("kind", "content", "suffix", "facts"),
    [
        ("text", b"one two\nthree\n", ".txt", {"lines": 2, "words": 3, "encoding": "utf-8"}),
        ("image", picture(), ".png", {"width": 20, "height": 10, "format": "png"}),
        ("pdf", document(), ".pdf", {"pages": 3}),
        ("archive", archive(), ".zip", {"entries": 2}),
        ("table", b"a,b\n1,2\n", ".csv", {"columns": None, "rows": 1}),
    ],
)
def test_each_kind_of_file_offers_its_own(
    client: Client, kind: str, content: bytes, suffix: str, facts: dict[str, Any]
) -> None:
    """(text: lines, words, encoding; image: width, height, format; PDF: pages; archive: entries; table: columns,
    rows)
    """
    found = handle(client, content, suffix)

    assert found["kind"] == kind
    assert found.keys() >= facts.keys()
    assert {name: found[name] for name, fact in facts.items() if fact is not None} == {
        name: fact for name, fact in facts.items() if fact is not None
    }


@pytest.mark.parametrize(
    ("operation", "options", "makes"),
    [
        ("checksum", {"algorithm": "md5"}, False),
        ("extract_text", {}, False),  # a short text is in the result itself
        ("compress", {"method": "xz"}, True),
        ("thumbnail", {"size_px": 16}, True),
        ("convert", {"format": "webp"}, True),
    ],
)
def test_operations_make_files(client: Client, operation: str, options: dict[str, Any], makes: bool) -> None:
    """`checksum`, `extract_text`, `thumbnail`, `convert`, `compress`, with its own options … `output`: the file it
    made
    """
    is_image = operation in ("thumbnail", "convert")
    content, suffix = (picture(), ".png") if is_image else (b"one two\n", ".txt")

    found = handle(client, content, suffix, operation=operation, **options)

    assert ("output" in found) is makes
    if makes:
        made = client.get(f"/api/files/{found['output']['filename']}")
        assert (made.status_code, len(made.content)) == (200, found["output"]["size_bytes"])
    wrong = {"filename": "x", "operation": "inspect", **options}
    if options:
        assert pointers(client.submit(wrong, task_type="file_processing")) == [f"/parameters/{next(iter(options))}"]


FAILURES: dict[str, tuple[str, dict[str, Any], bool]] = {
    "file_not_found": ("file_processing", {"filename": "never-uploaded.txt"}, False),
    "query_failed": ("data_processing", {"data": ROWS, "query": "select nothing from data"}, False),
    "query_not_allowed": ("data_processing", {"data": ROWS, "query": "drop table data"}, False),
    "smtp_refused": ("email_sending", {**MAIL, "to": "unknown@example.com"}, False),
    "smtp_unavailable": ("email_sending", {**MAIL, "to": "busy@example.com"}, True),
    "timed_out": ("short_sleep", {"seconds": 30}, False),
    "result_too_large": ("data_processing", {"data": ROWS, "query": "select repeat('x', 2000000)"}, False),
    "internal": ("broken", {}, True),
}


@pytest.mark.parametrize("code", FAILURES)
def test_a_failure_has_a_stable_code(client: Client, code: str) -> None:
    """A task's own `error.code`s are stable too: `file_not_found` … `query_failed`, `query_not_allowed`,
    `smtp_refused`, `smtp_unavailable`, `timed_out` … `result_too_large`, `internal`.
    """
    task_type, parameters, is_retryable = FAILURES[code]

    task = client.run(parameters, task_type=task_type, max_retries=0)

    assert (task["status"], task["error"]["code"]) == ("failed", code)
    assert task["error"]["retryable"] is is_retryable


def test_a_file_that_cannot_be_read_has_a_code_of_its_own(client: Client) -> None:
    """`unsupported_file`"""
    text = uploaded(client, b"one two\n", ".txt")

    task = client.run({"filename": text, "operation": "thumbnail"}, task_type="file_processing")

    assert (task["status"], task["error"]["code"], task["error"]["retryable"]) == ("failed", "unsupported_file", False)


def test_a_file_that_is_too_large_has_a_code_of_its_own(client: Client) -> None:
    """`file_too_large`"""
    image = Image.new("1", (8000, 8000))  # more pixels than a task decodes, in few bytes
    content = io.BytesIO()
    image.save(content, "png")
    name = uploaded(client, content.getvalue(), ".png")

    task = client.run({"filename": name, "operation": "thumbnail"}, task_type="file_processing")

    assert (task["status"], task["error"]["code"], task["error"]["retryable"]) == ("failed", "file_too_large", False)


def test_retryable_says_whether_it_was_tried_again(client: Client) -> None:
    """`retryable` says whether the service itself would try again (it did, and attempts ran out) or not
    (permanent).
    """
    transient = client.run({"fail_attempts": 9}, max_retries=1)
    permanent = client.run({"fail_attempts": 9, "permanent": True}, max_retries=1)

    assert (transient["error"]["retryable"], transient["attempt"]) == (True, 2)
    assert (permanent["error"]["retryable"], permanent["attempt"]) == (False, 1)
