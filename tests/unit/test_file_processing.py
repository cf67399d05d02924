"""Task type file_processing on real files: what each kind offers, what each operation makes, and what is refused."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest
from PIL import Image
from pydantic import ValidationError
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from taskservice.errors import PermanentError, TaskCancelled
from taskservice.files import FsspecFileStore
from taskservice.handlers import file_processing
from taskservice.handlers.file_processing import FileProcessingParameters, process_file
from tests.support.context import PlainContext

LIMIT_BYTES = 20 * 2**20


class _Context(PlainContext):
    """A TaskContext with a store in a directory, which remembers the progress it was told."""

    task_id = "0192-task"

    def __init__(self, files: FsspecFileStore) -> None:
        self.files = files
        self.told: list[tuple[int, int, str]] = []
        self.is_cancelled = False

    def progress(self, current: int, total: int, message: str = "") -> None:
        self.told.append((current, total, message))
        if self.is_cancelled:
            raise TaskCancelled

    def put(self, filename: str, content: bytes) -> None:
        self.files.save(filename, io.BytesIO(content))

    def get(self, filename: str) -> bytes:
        with self.files.open(filename) as content:
            return content.read()


@pytest.fixture
def context(tmp_path: Path) -> _Context:
    return _Context(FsspecFileStore(str(tmp_path / "files"), max_upload_bytes=LIMIT_BYTES))


def _run(context: _Context, **parameters: Any) -> Mapping[str, Any]:
    result = process_file(FileProcessingParameters.model_validate(parameters), context)
    json.dumps(result, allow_nan=False)  # a result is JSON
    return result


def _failure(context: _Context, **parameters: Any) -> str:
    with pytest.raises(PermanentError) as failed:
        _run(context, **parameters)
    return failed.value.code


def _image(mode: str = "RGB", size: tuple[int, int] = (600, 300), image_format: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.new(mode, size).save(content, image_format)
    return content.getvalue()


def _pdf(*texts: str, password: str | None = None) -> bytes:
    writer = PdfWriter()
    for text in texts:
        page = writer.add_blank_page(200, 200)
        font = DictionaryObject(
            {NameObject(key): NameObject(value) for key, value in _HELVETICA.items()},
        )
        fonts = DictionaryObject({NameObject("/F1"): writer._add_object(font)})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 10 100 Td ({text}) Tj ET".encode())
        page[NameObject("/Contents")] = writer._add_object(stream)
    if password is not None:
        writer.encrypt(password, algorithm="RC4-128")
    content = io.BytesIO()
    writer.write(content)
    return content.getvalue()


_HELVETICA = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}


def _zip(files: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def _tar(files: Mapping[str, bytes], mode: Any = "w") -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()


def _parquet(tmp_path: Path) -> bytes:
    path = tmp_path / "made.parquet"
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT range AS id, 'n' || range AS name FROM range(3)) TO '{path}' (FORMAT parquet)"
        )
    return path.read_bytes()


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


# --- parameters


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({}, "filename"),
        ({"filename": "../a"}, "filename"),
        ({"filename": "a", "unknown": 1}, "unknown"),
        ({"filename": "a", "operation": "shred"}, "operation"),
        ({"filename": "a", "size_px": 64}, "size_px"),
        ({"filename": "a", "operation": "thumbnail", "size_px": 15}, "size_px"),
        ({"filename": "a", "operation": "thumbnail", "size_px": 2049}, "size_px"),
        ({"filename": "a", "operation": "thumbnail", "size_px": True}, "size_px"),
        ({"filename": "a", "operation": "thumbnail", "format": "png"}, "format"),
        ({"filename": "a", "operation": "convert"}, "format"),
        ({"filename": "a", "operation": "convert", "format": "gif"}, "format"),
        ({"filename": "a", "operation": "compress", "algorithm": "md5"}, "algorithm"),
        ({"filename": "a", "operation": "checksum", "algorithm": "crc32"}, "algorithm"),
        ({"filename": "a", "operation": "checksum", "method": "zip"}, "method"),
        ({"filename": "a", "operation": "checksum", "output": "b"}, "output"),
        ({"filename": "a", "operation": "compress", "output": "b/c"}, "output"),
        ({"filename": "a", "operation": "compress", "output": "a"}, "output"),
    ],
)
def test_wrong_parameter_is_refused_at_its_field(parameters: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        FileProcessingParameters.model_validate(parameters)

    assert [error["loc"] for error in refused.value.errors()] == [(field,)]


def test_parameters_survive_the_message() -> None:
    parameters = FileProcessingParameters.model_validate({"filename": "a", "operation": "thumbnail", "size_px": 64})

    dumped = parameters.model_dump(mode="json", exclude_unset=True)

    assert dumped == {"filename": "a", "operation": "thumbnail", "size_px": 64}
    assert FileProcessingParameters.model_validate(dumped) == parameters


# --- inspect


def test_every_result_tells_size_type_and_checksum(context: _Context) -> None:
    context.put("a.bin", b"\0\1\2")

    result = _run(context, filename="a.bin")

    assert result["size_bytes"] == 3
    assert result["mime_type"] == "application/octet-stream"
    assert result["sha256"] == hashlib.sha256(b"\0\1\2").hexdigest()


@pytest.mark.parametrize(
    ("content", "lines", "words", "encoding"),
    [
        (b"", 0, 0, "utf-8"),
        (b"one two\nthree", 2, 3, "utf-8"),
        (b"one two\r\nthree\r\n", 2, 3, "utf-8"),
        ("größe über\n".encode(), 1, 2, "utf-8"),
        ("größe über\n".encode("utf-16"), 1, 2, "utf-16"),
        (b"\xef\xbb\xbfone\n", 1, 1, "utf-8-sig"),
        (b"word " * 500_000, 1, 500_000, "utf-8"),
        ("ä".encode() * 200_001, 1, 1, "utf-8"),
    ],
)
def test_text_offers_lines_words_and_encoding(
    context: _Context, content: bytes, lines: int, words: int, encoding: str
) -> None:
    context.put("a.txt", content)

    result = _run(context, filename="a.txt")

    assert (result["lines"], result["words"], result["encoding"]) == (lines, words, encoding)


def test_text_in_an_old_encoding_is_recognised(context: _Context) -> None:
    context.put("a.txt", "Größe über alles, schöne Grüße aus München und Köln\n".encode("cp1252") * 20)

    result = _run(context, filename="a.txt", operation="extract_text")

    assert result["text"].startswith("Größe über")


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_image_offers_width_height_and_format(context: _Context, image_format: str) -> None:
    context.put("a", _image(image_format=image_format))

    result = _run(context, filename="a")

    assert (result["width"], result["height"], result["format"]) == (600, 300, image_format.lower())


def test_pdf_offers_pages(context: _Context) -> None:
    context.put("a.pdf", _pdf("one", "two"))

    assert _run(context, filename="a.pdf")["pages"] == 2


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "gz", "empty zip"])
def test_archive_offers_entries_and_unpacked_bytes(context: _Context, kind: str) -> None:
    files = {"a": b"x" * 600, "b/c": b"y" * 400}
    made = {
        "zip": (_zip(files), 2, 1000),
        "tar": (_tar(files), 2, 1000),
        "tar.gz": (_tar(files, "w:gz"), 2, 1000),
        "gz": (gzip.compress(b"z" * 3000), 1, 3000),
        "empty zip": (_zip({}), 0, 0),
    }
    content, entries, unpacked_bytes = made[kind]
    context.put("archive", content)

    result = _run(context, filename="archive")

    assert (result["entries"], result["unpacked_bytes"]) == (entries, unpacked_bytes)


@pytest.mark.parametrize(
    ("filename", "content"),
    [
        ("a.csv", b"id,name\n1,x\n2,y\n3,z\n"),
        ("a*.csv", b"id,name\n1,x\n2,y\n3,z\n"),
        ("a'b.csv", b"id,name\n1,x\n2,y\n3,z\n"),
        ("a.tsv", b"id\tname\n1\tx\n2\ty\n3\tz\n"),
        ("a.json", b'[{"id":1,"name":"x"},{"id":2,"name":"y"},{"id":3,"name":"z"}]'),
        ("a.ndjson", b'{"id":1,"name":"x"}\n{"id":2,"name":"y"}\n{"id":3,"name":"z"}\n'),
    ],
)
def test_table_offers_columns_and_rows(context: _Context, filename: str, content: bytes) -> None:
    context.put(filename, content)
    context.put("ab.csv", b"other\n1\n")

    result = _run(context, filename=filename)

    assert (result["columns"], result["rows"]) == (["id", "name"], 3)


def test_parquet_offers_columns_and_rows(context: _Context, tmp_path: Path) -> None:
    context.put("a.parquet", _parquet(tmp_path))

    result = _run(context, filename="a.parquet")

    assert (result["columns"], result["rows"]) == (["id", "name"], 3)


def test_text_that_is_no_table_is_inspected_as_text(context: _Context) -> None:
    context.put("a.json", b'{"broken": \n')

    assert _run(context, filename="a.json")["lines"] == 1


# --- operations that make something


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "md5", "blake2b"])
def test_checksum_is_of_the_algorithm_asked_for(context: _Context, algorithm: str) -> None:
    context.put("a", b"abc")

    result = _run(context, filename="a", operation="checksum", algorithm=algorithm)

    assert result["checksum"] == hashlib.new(algorithm, b"abc").hexdigest()


def test_text_is_extracted_from_pdf_with_progress(context: _Context) -> None:
    context.put("a.pdf", _pdf("first page", "second page"))

    result = _run(context, filename="a.pdf", operation="extract_text")

    assert result["text"] == "first page\nsecond page"
    assert result["truncated"] is False
    assert "output" not in result
    assert context.told == [(1, 2, "pages"), (2, 2, "pages")]


def test_long_text_is_truncated_inline_but_whole_in_the_output(context: _Context) -> None:
    context.put("a.txt", b"x" * 1_500_000)

    result = _run(context, filename="a.txt", operation="extract_text", output="b.txt")

    assert (len(result["text"]), result["truncated"]) == (100_000, True)
    assert result["output"]["size_bytes"] == 1_500_000
    assert context.get("b.txt") == b"x" * 1_500_000


def test_text_of_exactly_the_limit_is_not_truncated(context: _Context) -> None:
    context.put("a.txt", b"x" * 100_000)

    assert _run(context, filename="a.txt", operation="extract_text")["truncated"] is False


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1", "I;16"])
def test_thumbnail_fits_256_px_unless_asked_otherwise(context: _Context, mode: str) -> None:
    context.put("a.png", _image(mode))

    default = _run(context, filename="a.png", operation="thumbnail")
    small = _run(context, filename="a.png", operation="thumbnail", size_px=64, output="small.jpg")

    assert Image.open(io.BytesIO(context.get(default["output"]["filename"]))).size == (256, 128)
    assert Image.open(io.BytesIO(context.get("small.jpg"))).size == (64, 32)
    assert default["output"]["mime_type"] == "image/png"
    assert small["output"]["mime_type"] == "image/jpeg"


def test_thumbnail_never_enlarges_and_stands_upright(context: _Context) -> None:
    content, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    Image.new("RGB", (40, 20)).save(content, "JPEG", exif=exif)
    context.put("a.jpg", content.getvalue())

    _run(context, filename="a.jpg", operation="thumbnail", output="t.png")

    assert Image.open(io.BytesIO(context.get("t.png"))).size == (20, 40)


@pytest.mark.parametrize("source_mode", ["RGB", "RGBA", "P", "LA"])
@pytest.mark.parametrize("wanted", ["png", "jpeg", "webp"])
def test_image_is_converted(context: _Context, source_mode: str, wanted: str) -> None:
    context.put("a.png", _image(source_mode))

    result = _run(context, filename="a.png", operation="convert", format=wanted)

    assert result["output"]["mime_type"] == f"image/{wanted}"
    assert result["output"]["filename"].endswith(f".{wanted}")


def test_cmyk_image_is_converted(context: _Context) -> None:
    context.put("a.jpg", _image("CMYK", image_format="JPEG"))

    assert _run(context, filename="a.jpg", operation="convert", format="webp")["output"]["mime_type"] == "image/webp"


def test_table_is_converted_to_every_format_and_back(context: _Context) -> None:
    context.put("t.csv", b"id,name\n1,x\n2,y\n")
    source = "t.csv"

    for wanted in ("parquet", "ndjson", "json", "csv"):
        result = _run(context, filename=source, operation="convert", format=wanted, output=f"out.{wanted}")
        assert result["rows"] == 2
        source = f"out.{wanted}"

    assert context.get("out.ndjson") == b'{"id":1,"name":"x"}\n{"id":2,"name":"y"}\n'
    assert json.loads(context.get("out.json")) == [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}]
    assert context.get("out.csv") == b"id,name\n1,x\n2,y\n"


def test_compressed_file_unpacks_to_the_source(context: _Context) -> None:
    content = b"abc" * 300_000
    context.put("a.txt", content)

    made = {
        method: context.get(_run(context, filename="a.txt", operation="compress", method=method)["output"]["filename"])
        for method in ("gzip", "zip", "bz2", "xz")
    }

    assert gzip.decompress(made["gzip"]) == bz2.decompress(made["bz2"]) == lzma.decompress(made["xz"]) == content
    with zipfile.ZipFile(io.BytesIO(made["zip"])) as archive:
        assert archive.read("a.txt") == content
    assert (900_000, 900_000, "bytes") in context.told


def test_second_attempt_makes_the_same_file(context: _Context) -> None:
    context.put("a.txt", b"abc")

    first, second = (_run(context, filename="a.txt", operation="compress")["output"] for _ in range(2))

    assert first == second
    assert first["filename"] == "a-compress-0192-task.txt.gz"


def test_longest_name_still_gives_a_safe_output_name(context: _Context) -> None:
    name = "ä" * 90 + ".txt"
    context.put(name, b"abc")

    output = _run(context, filename=name, operation="compress")["output"]

    assert len(output["filename"].encode()) <= 200


def test_16_bit_greys_keep_their_brightness(context: _Context) -> None:
    content = io.BytesIO()
    Image.new("I;16", (30, 30), 0x8000).save(content, "PNG")
    context.put("a.png", content.getvalue())

    _run(context, filename="a.png", operation="convert", format="png", output="b.png")

    assert Image.open(io.BytesIO(context.get("b.png"))).getpixel((1, 1)) == 0x80


# --- failures


def test_missing_file_fails_for_good(context: _Context) -> None:
    assert _failure(context, filename="nothing.txt") == "file_not_found"


@pytest.mark.parametrize(
    ("filename", "content"),
    [
        ("a.png", _image()[:100]),
        ("a.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
        ("a.jpg", _image(size=(2000, 2000), image_format="JPEG")[:9000]),
        ("a.gif", _image(image_format="GIF")[:30]),
        ("a.webp", _image(image_format="WEBP")[:40]),
        ("a.pdf", _pdf("secret", password="x")),
        ("a.pdf", b"%PDF-1.7\nnothing more"),
        ("a.pdf", _pdf("one")[:-200]),
        ("a.zip", _zip({"a": b"x" * 100})[:50]),
        ("a.tar.gz", _tar({"a": bytes(range(256)) * 90}, "w:gz")[:-20]),
        ("a.gz", gzip.compress(b"abc" * 1000)[:-10]),
        ("a.parquet", b"PAR1 broken PAR1"),
    ],
)
def test_broken_file_is_unsupported(context: _Context, filename: str, content: bytes) -> None:
    context.put(filename, content)

    assert _failure(context, filename=filename) == "unsupported_file"


@pytest.mark.parametrize(
    ("filename", "content", "options"),
    [
        ("a.txt", b"words", {"operation": "thumbnail"}),
        ("a.txt", b"words", {"operation": "convert", "format": "png"}),
        ("a.png", _image(), {"operation": "convert", "format": "csv"}),
        ("a.png", _image(), {"operation": "extract_text"}),
        ("a.csv", b"a,b\n1,2\n", {"operation": "convert", "format": "png"}),
        ("a.json", b"{broken", {"operation": "convert", "format": "csv"}),
        ("a.pdf", _pdf("secret", password="x"), {"operation": "extract_text"}),
        ("a.png", _image(size=(20_000, 10)), {"operation": "convert", "format": "webp"}),
    ],
)
def test_operation_the_kind_does_not_offer_is_unsupported(
    context: _Context, filename: str, content: bytes, options: dict[str, Any]
) -> None:
    context.put(filename, content)

    assert _failure(context, filename=filename, **options) == "unsupported_file"


@pytest.mark.parametrize("size", [(10_000, 5_001), (10_000, 10_001), (2**31 - 1, 2**31 - 1)])
@pytest.mark.parametrize("operation", ["inspect", "thumbnail"])
def test_image_of_too_many_pixels_is_refused_before_decoding(
    context: _Context, size: tuple[int, int], operation: str
) -> None:
    context.put("a.png", _png_header(*size))

    assert _failure(context, filename="a.png", operation=operation) == "file_too_large"


def test_file_beyond_the_size_limit_is_refused(context: _Context, tmp_path: Path) -> None:
    context.put("a", b"")
    with (tmp_path / "files" / "a").open("r+b") as sparse:
        sparse.truncate(file_processing.MAX_FILE_BYTES + 1)

    assert _failure(context, filename="a", operation="checksum") == "file_too_large"


def test_pdf_of_too_many_pages_is_refused(context: _Context) -> None:
    writer, content = PdfWriter(), io.BytesIO()
    for _ in range(file_processing.MAX_PAGES + 1):
        writer.add_blank_page(10, 10)
    writer.write(content)
    context.put("a.pdf", content.getvalue())

    assert _failure(context, filename="a.pdf") == "file_too_large"


def test_archive_of_too_many_entries_is_refused(context: _Context) -> None:
    files = {str(number): b"" for number in range(file_processing.MAX_ARCHIVE_ENTRIES + 1)}
    context.put("a.zip", _zip(files))
    context.put("a.tar.gz", _tar(files, "w:gz"))

    assert _failure(context, filename="a.zip") == "file_too_large"
    assert _failure(context, filename="a.tar.gz") == "file_too_large"


def test_archive_that_unpacks_to_too_much_is_refused(context: _Context) -> None:
    entry = tarfile.TarInfo("bomb")
    entry.size = file_processing.MAX_UNPACKED_BYTES + 1
    context.put("plain.gz", gzip.compress(bytes(2**26), 1) * 17)
    context.put("a.tar", entry.tobuf())

    assert _failure(context, filename="plain.gz") == "file_too_large"
    assert _failure(context, filename="a.tar") == "file_too_large"


def test_archive_header_that_asks_for_much_memory_is_refused(context: _Context) -> None:
    entry = tarfile.TarInfo("names")
    entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, 2**30
    context.put("a.tar", entry.tobuf(tarfile.GNU_FORMAT))

    assert _failure(context, filename="a.tar") == "file_too_large"


def test_product_beyond_the_upload_limit_is_refused_and_not_stored(tmp_path: Path) -> None:
    context = _Context(FsspecFileStore(str(tmp_path / "files"), max_upload_bytes=10))
    context.put("a", b"")

    assert _failure(context, filename="a", operation="compress") == "file_too_large"
    assert [file.filename for file in context.files.list()] == ["a"]


def test_table_of_too_many_rows_is_refused(context: _Context) -> None:
    context.put("a.csv", b"n\n" + b"1\n" * (file_processing.MAX_ROWS + 1))

    assert _failure(context, filename="a.csv") == "file_too_large"


# --- cancellation


@pytest.mark.parametrize(
    ("filename", "content", "options"),
    [
        ("a.txt", b"words", {"operation": "inspect"}),
        ("a.txt", b"words", {"operation": "checksum"}),
        ("a.txt", b"words", {"operation": "extract_text", "output": "made"}),
        ("a.txt", b"words", {"operation": "compress", "output": "made"}),
        ("a.pdf", _pdf("one", "two"), {"operation": "extract_text", "output": "made"}),
        ("a.zip", _zip({"a": b"", "b": b""}), {"operation": "inspect"}),
        ("a.tar", _tar({"a": b"", "b": b""}), {"operation": "inspect"}),
        ("a.tar.gz", _tar({"a": b"", "b": b""}, "w:gz"), {"operation": "inspect"}),
    ],
)
def test_a_cancelled_task_stops_at_its_first_progress_and_makes_nothing(
    context: _Context, filename: str, content: bytes, options: dict[str, Any]
) -> None:
    context.put(filename, content)
    context.is_cancelled = True

    with pytest.raises(TaskCancelled):
        _run(context, filename=filename, **options)

    assert len(context.told) == 1
    assert [file.filename for file in context.files.list()] == [filename]


def test_the_end_of_an_archive_is_told_once(context: _Context) -> None:
    content = _tar({str(number): b"" for number in range(100)}, "w:gz")
    context.put("a.tar.gz", content)

    _run(context, filename="a.tar.gz")

    assert [current for current, total, _ in context.told if current == total] == [len(content)]
