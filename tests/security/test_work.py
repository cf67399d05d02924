"""Work that is made to steal, to run for ever or to explode: a permanent error of the task, and nobody else notices."""

from __future__ import annotations

import concurrent.futures
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfWriter

from tests.conftest import WaitUntil
from tests.support.service import FINAL, Service

pytestmark = pytest.mark.usefixtures("unharmed")

GIB = 2**30
STEALING = [
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_csv('/etc/passwd', sep=':')",
    "SELECT * FROM read_blob('/proc/self/environ')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT getenv('CELERY_BROKER_URL')",
    "SELECT * FROM 'http://127.0.0.1:1/x.csv'",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
    "SELECT * FROM query_table('/etc/passwd')",
    "FROM data SELECT (SELECT content FROM read_text('/etc/hostname'))",
    "COPY data TO '{outside}'",
    "EXPORT DATABASE '{outside}'",
    "ATTACH '{outside}' AS other",
    "INSTALL httpfs",
    "LOAD '{outside}'",
    "SET enable_external_access = true",
    "SET allow_unsigned_extensions = true",
    "PRAGMA database_list",
    "SELECT 1; COPY data TO '{outside}'",
    "CREATE MACRO m() AS 1",
]
GREEDY = [
    "SELECT repeat('x', 4000000000)",
    "SELECT list(range) FROM range(10000000000)",
    "SELECT string_agg(repeat('x', 1000000), '') FROM range(100000)",
    "SELECT count(DISTINCT hash(a.range * 1000000 + b.range)) FROM range(1000000) a, range(1000000) b",
    "SELECT * FROM range(100000000) ORDER BY hash(range)",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r",
    "SELECT count(*) FROM range(1000000000) a, range(1000000000) b",
    "SELECT regexp_matches(repeat('a', 100000), '(a*)*b')",
    "SELECT " + "(" * 4900 + "1" + ")" * 4900,
]


@pytest.mark.parametrize("query", STEALING)
def test_a_query_reaches_nothing_but_its_data(
    target: Service, wait_until: WaitUntil, tmp_path: Path, query: str
) -> None:
    outside = tmp_path / "outside"
    task = ended(target, wait_until, "data_processing", {"data": [1], "query": query.format(outside=outside)})

    assert (task["status"], task["result"]) == ("failed", None)
    assert task["error"]["code"] in ("query_not_allowed", "query_failed")
    assert task["error"]["retryable"] is False
    assert "root:" not in str(task)
    assert not outside.exists()


def test_greedy_and_endless_queries_are_ended_while_others_are_served(target: Service, wait_until: WaitUntil) -> None:
    """One after another on the two processes of the low queue; the normal one has nothing to do with them."""
    with concurrent.futures.ThreadPoolExecutor(len(GREEDY)) as pool:
        running = [pool.submit(end_query, target, wait_until, query) for query in GREEDY]
        bystander = ended(target, wait_until, "data_processing", {"data": [1, 2]}, within_s=5)
        tasks = [one.result() for one in running]

    told = {task["parameters"]["query"][:60]: code_of(task) for task in tasks}
    assert bystander["status"] == "succeeded"
    assert {query: code for query, code in told.items() if code not in ENDED} == {}
    assert [task["error"] for task in tasks if task["error"] and task["error"]["retryable"]] == []


def end_query(target: Service, wait_until: WaitUntil, query: str) -> dict[str, Any]:
    parameters = {"data": [1], "query": query}
    return ended(target, wait_until, "data_processing", parameters, priority="low", within_s=400)


ENDED = ("query_failed", "query_not_allowed", "timed_out", "result_too_large", None)  # None: it was harmless after all


def png(width: int, height: int) -> bytes:
    """A real image of one bit a pixel, all of them black."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    rows = zlib.compressobj(1)
    packed = b"".join(rows.compress(bytes(1 + width // 8)) for _ in range(height)) + rows.flush()
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def gif(width: int, height: int, frames: int) -> bytes:
    """Many frames that are declared large and hold next to nothing."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\x00"
    return head + frame * frames + b";"


def zip_of(files: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def zip_bomb() -> bytes:
    """One entry of more than a GiB, written piece by piece."""
    content = io.BytesIO()
    piece = bytes(2**24)
    with (
        zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("bomb", "w", force_zip64=True) as entry,
    ):
        for _ in range(GIB // len(piece) + 1):
            entry.write(piece)
    return content.getvalue()


def tar_of(*entries: tarfile.TarInfo, mode: Any = "w:gz") -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:
        for entry in entries:
            archive.addfile(entry)
    return content.getvalue()


def long_name_tar() -> bytes:
    """A header that announces a name of a GiB."""
    entry = tarfile.TarInfo("names")
    entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, GIB
    return entry.tobuf(tarfile.GNU_FORMAT)


def pdf(stream: bytes, *, filters: str, kids: str = "[4 0 R]") -> bytes:
    """One page whose content is the stream; `kids` may make the tree of pages bite its own tail."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count 1 /Kids " + kids.encode() + b" >>",
        b"<< /Length %d /Filter %s >>\nstream\n%s\nendstream" % (len(stream), filters.encode(), stream),
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 3 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    body = b"%PDF-1.4\n"
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"xref\n0 6\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return body + table + b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % len(body)


def twice_deflated() -> bytes:
    """A GiB of spaces in a few hundred bytes."""
    first = zlib.compressobj(9)
    packed = b"".join(first.compress(b" " * 2**24) for _ in range(64)) + first.flush()
    return zlib.compress(packed, 9)


def pages_pdf(count: int) -> bytes:
    writer = PdfWriter()
    for _ in range(count):
        writer.add_blank_page(9, 9)
    content = io.BytesIO()
    writer.write(content)
    return content.getvalue()


CONVERT = {"operation": "convert", "format": "webp"}
TOO_LARGE, UNSUPPORTED = "file_too_large", "unsupported_file"
Make = Callable[[], bytes]
EXPLODING: dict[str, tuple[str, Make, dict[str, Any], tuple[str | None, ...]]] = {
    # what it is: name, content, options, the codes that are right (None: it is bounded and succeeds)
    "image, 900 megapixels": ("a.png", lambda: png(30_000, 30_000), {"operation": "thumbnail"}, (TOO_LARGE,)),
    "image, converted": ("b.png", lambda: png(30_000, 30_000), CONVERT, (TOO_LARGE,)),
    "image, 65,535 wide": ("c.gif", lambda: gif(65_535, 65_535, 3), {"operation": "thumbnail"}, (TOO_LARGE,)),
    "image, 100,000 frames": ("d.gif", lambda: gif(2000, 2000, 100_000), {}, (None, UNSUPPORTED, TOO_LARGE)),
    "image, cut off": ("e.png", lambda: png(600, 600)[:60], {"operation": "thumbnail"}, (UNSUPPORTED,)),
    "zip, one entry of a GiB": ("a.zip", zip_bomb, {}, (TOO_LARGE,)),
    "zip, 20,000 entries": ("b.zip", lambda: zip_of({str(n): b"" for n in range(20_000)}), {}, (TOO_LARGE,)),
    "zip, names that climb": ("c.zip", lambda: zip_of({"../../x": b"y", "/etc/x": b"y"}), {}, (None,)),
    "gzip, a GiB": ("a.gz", lambda: gzip.compress(bytes(2**26), 1) * 17, {}, (TOO_LARGE,)),
    "xz, a GiB, which nobody opens": ("a.xz", lambda: lzma.compress(bytes(2**25), preset=0) * 33, {}, (None,)),
    "tar, a name of a GiB": ("a.tar", long_name_tar, {}, (TOO_LARGE,)),
    "tar, 20,000 entries": (
        "b.tar.gz", lambda: tar_of(*(tarfile.TarInfo(str(n)) for n in range(20_000))), {}, (TOO_LARGE,)
    ),
    "pdf, a page of a GiB": (
        "a.pdf", lambda: pdf(twice_deflated(), filters="[/FlateDecode /FlateDecode]"),
        {"operation": "extract_text"}, (TOO_LARGE, UNSUPPORTED),
    ),
    "pdf, pages in a circle": (
        "b.pdf", lambda: pdf(zlib.compress(b" "), filters="/FlateDecode", kids="[2 0 R 2 0 R]"),
        {"operation": "extract_text"}, (UNSUPPORTED, None),
    ),
    "pdf, 2,500 pages": ("c.pdf", lambda: pages_pdf(2500), {"operation": "extract_text"}, (TOO_LARGE,)),
    "text, one line of 40 MiB": ("a.txt", lambda: b"x" * 40 * 2**20, {"operation": "extract_text"}, (None, TOO_LARGE)),
    "json, nested 1,000,000 levels": ("a.json", lambda: b"[" * 10**6, {}, (UNSUPPORTED, None)),
    "csv, 100,000 columns": (
        "a.csv", lambda: b",".join(b"c%d" % n for n in range(10**5)) + b"\n" + b"," * (10**5 - 1) + b"\n", {},
        (UNSUPPORTED, TOO_LARGE, None),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", EXPLODING)
def test_a_file_made_to_explode_is_a_permanent_error(target: Service, wait_until: WaitUntil, what: str) -> None:
    name, make, options, codes = EXPLODING[what]
    upload(target, name, make())

    task = ended(target, wait_until, "file_processing", {"filename": name, **options}, within_s=90)

    assert code_of(task) in codes, task["error"]
    assert task["attempt"] == 1
    target.call("GET", "/api/files")
    assert "Traceback" not in str(task)


@pytest.mark.parametrize("what", ["json, nested 1,000,000 levels", "csv, 100,000 columns", "gzip, a GiB"])
def test_a_table_made_to_explode_is_a_permanent_error(target: Service, wait_until: WaitUntil, what: str) -> None:
    name, make, _, _ = EXPLODING[what]
    name = f"{name}.csv" if name.endswith("gz") else name
    upload(target, name, make())

    task = ended(target, wait_until, "data_processing", {"file": name}, within_s=90)

    assert code_of(task) in (UNSUPPORTED, TOO_LARGE), task["error"]
    assert task["attempt"] == 1


def upload(target: Service, name: str, content: bytes) -> None:
    target.call("POST", "/api/files", status=201, files={"file": (name, content)})


def ended(
    target: Service,
    wait_until: WaitUntil,
    task_type: str,
    parameters: dict[str, Any],
    *,
    within_s: float = 30,
    **members: Any,
) -> dict[str, Any]:
    """The task when it has ended."""
    task_id = target.submit(parameters, task_type=task_type, **members)
    wait_until(lambda: target.status(task_id) in FINAL, within_s, f"{task_type} {str(parameters)[:80]} ends")
    return target.task(task_id)


def code_of(task: Mapping[str, Any]) -> str | None:
    return str(task["error"]["code"]) if task["error"] else None
