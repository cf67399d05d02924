"""Task type `file_processing`: look at an uploaded file, or make another one from it.

Must not know Celery, Redis or HTTP; never unpacks an archive to disk, never decodes before the size is known.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import struct
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from taskservice.errors import InvalidFileName, PermanentError, StoredFileNotFound, UploadTooLarge
from taskservice.files import CHUNK_BYTES, check_filename, is_textual
from taskservice.handlers import task_type
from taskservice.model import StoredFile, TaskContext

if TYPE_CHECKING:
    from PIL import Image

MAX_FILE_BYTES = 200 * 2**20
MAX_PIXELS = 50_000_000
MAX_PAGES = 2000
MAX_ARCHIVE_ENTRIES = 10_000
MAX_UNPACKED_BYTES = 2**30
MAX_ZIP_READ_BYTES = 8 * 2**20  # what one read of an archive's directory may ask for
MAX_TAR_READ_BYTES = 2**20  # less, because tarfile nests them
MAX_ROWS = 5_000_000
MAX_INLINE_CHARACTERS = 100_000
SAMPLE_BYTES = 256 * 2**10  # what an encoding is told from
IN_MEMORY_BYTES = 8 * 2**20  # a larger product waits on disk to be stored

IMAGE_FORMATS = ("png", "jpeg", "webp")
READABLE_IMAGES = {
    "image/png": "PNG",
    "image/apng": "PNG",
    "image/jpeg": "JPEG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
    "image/x-icon": "ICO",
}
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

# What a broken file makes a parser raise besides its own errors.
_BROKEN = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    RecursionError,
    NotImplementedError,
    EOFError,
    SyntaxError,
    struct.error,
    zlib.error,
)

Facts = dict[str, Any]


class Operation(StrEnum):
    """What to do with the file."""

    INSPECT = "inspect"
    CHECKSUM = "checksum"
    EXTRACT_TEXT = "extract_text"
    THUMBNAIL = "thumbnail"
    CONVERT = "convert"
    COMPRESS = "compress"


_OPERATIONS_WITH = {
    "output": (Operation.EXTRACT_TEXT, Operation.THUMBNAIL, Operation.CONVERT, Operation.COMPRESS),
    "algorithm": (Operation.CHECKSUM,),
    "size_px": (Operation.THUMBNAIL,),
    "format": (Operation.CONVERT,),
    "method": (Operation.COMPRESS,),
}


class FileProcessingParameters(BaseModel):
    """An uploaded file, an operation, and that operation's own options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    filename: str = Field(description="name of an uploaded file")
    operation: Operation = Operation.INSPECT
    output: str | None = Field(None, description="name of the file to make; derived from filename and task if absent")
    algorithm: Literal["sha256", "sha512", "md5", "blake2b"] = Field("sha256", description="checksum only")
    size_px: int = Field(256, ge=16, le=2048, strict=True, description="thumbnail only: the square it fits into")
    format: Literal["png", "jpeg", "webp", "csv", "json", "ndjson", "parquet"] | None = Field(
        None, validate_default=True, description="convert only, and required there; images to images, tables to tables"
    )
    method: Literal["gzip", "zip", "bz2", "xz"] = Field("gzip", description="compress only")

    @field_validator("filename", "output")
    @classmethod
    def _is_safe(cls, name: str | None) -> str | None:
        if name is None:
            return None
        try:
            return check_filename(name)
        except InvalidFileName as error:
            raise ValueError(error.errors[0].detail) from error

    @field_validator("output", "algorithm", "size_px", "format", "method")
    @classmethod
    def _belongs_to_operation(cls, value: Any, info: ValidationInfo) -> Any:
        operation = info.data.get("operation")
        allowed = _OPERATIONS_WITH[info.field_name or ""]
        if value is not None and operation is not None and operation not in allowed:
            raise ValueError(f"is not an option of {operation.value}, only of {', '.join(allowed)}")
        return value

    @field_validator("output")
    @classmethod
    def _is_another_file(cls, output: str | None, info: ValidationInfo) -> str | None:
        if output is not None and output == info.data.get("filename"):
            raise ValueError("must differ from filename: a second attempt would read what the first has made")
        return output

    @field_validator("format")
    @classmethod
    def _is_given_for_convert(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("operation") is Operation.CONVERT:
            raise ValueError("is required by convert")
        return value


@task_type(
    "file_processing",
    parameters=FileProcessingParameters,
    max_retries=3,
    time_limit_s=300,
    example={"filename": "example.txt", "operation": "inspect"},
)
def process_file(parameters: FileProcessingParameters, context: TaskContext) -> Mapping[str, Any]:
    """Inspect, checksum, extract text from, make a thumbnail of, convert or compress an uploaded file."""
    try:
        if context.files.size_bytes(parameters.filename) > MAX_FILE_BYTES:
            raise _too_large(f"a file may have at most {MAX_FILE_BYTES} bytes")
        source = context.files.stat(parameters.filename)
        facts = _OPERATIONS[parameters.operation](parameters, source, context)
    except StoredFileNotFound as error:
        raise PermanentError("file_not_found", str(error)) from error
    except UploadTooLarge as error:
        raise _too_large(f"the file made from {parameters.filename!r} is too large: {error}") from error
    return {**asdict(source), "operation": parameters.operation.value, **facts}


def _too_large(message: str) -> PermanentError:
    return PermanentError("file_too_large", message)


def _unsupported(message: str) -> PermanentError:
    return PermanentError("unsupported_file", message)


# --- operations: parameters, the source, the context -> what they add to the result


def _inspect(parameters: FileProcessingParameters, source: StoredFile, context: TaskContext) -> Facts:
    mime_type = source.mime_type
    if mime_type in READABLE_IMAGES:
        with _opened_image(source, context) as image:
            image.load()
            return {"kind": "image", **_image_facts(image)}
    if mime_type == "application/pdf":
        with _opened_pdf(source, context) as pages:
            return {"kind": "pdf", "pages": len(pages)}
    if mime_type in TABLE_READERS:
        try:
            with _table(source, context) as table:
                return {"kind": "table", "columns": table.columns, "rows": table.rows}
        except PermanentError as error:
            if error.code != "unsupported_file" or not is_textual(mime_type):
                raise  # else: not a table after all, but text it is
    if is_textual(mime_type):
        return {"kind": "text", **_text_facts(source, context)}
    return _archive_facts(source, context) or {"kind": "other"}


def _checksum(parameters: FileProcessingParameters, source: StoredFile, context: TaskContext) -> Facts:
    digest = hashlib.new(parameters.algorithm, usedforsecurity=False)
    for chunk in _chunks(source, context):
        digest.update(chunk)
    return {"algorithm": parameters.algorithm, "checksum": digest.hexdigest()}


def _extract_text(parameters: FileProcessingParameters, source: StoredFile, context: TaskContext) -> Facts:
    inline, length = "", 0
    with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as product:
        for piece in _text_pieces(source, context):
            length += len(piece)
            inline += piece[: MAX_INLINE_CHARACTERS - len(inline)]
            if parameters.output is not None:
                product.write(piece.encode())
            elif length > MAX_INLINE_CHARACTERS:
                break
        facts: Facts = {"text": inline, "truncated": length > MAX_INLINE_CHARACTERS}
        if parameters.output is not None:
            facts["output"] = _store(parameters.output, product, context)
    return facts


def _thumbnail(parameters: FileProcessingParameters, source: StoredFile, context: TaskContext) -> Facts:
    output = parameters.output or _derived_name(parameters, ".png", context)
    wanted = {".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}.get(PurePosixPath(output).suffix.lower(), "png")
    with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as product:
        with _opened_image(source, context) as image:
            facts = _image_facts(image)
            picture = _displayable(image)
            picture.thumbnail((parameters.size_px, parameters.size_px))
            _write_image(picture, wanted, product)
        return {**facts, "output": _store(output, product, context)}


def _convert(parameters: FileProcessingParameters, source: StoredFile, context: TaskContext) -> Facts:
    wanted = parameters.format or ""
    output = parameters.output or _derived_name(parameters, f".{wanted}", context)
    if wanted in IMAGE_FORMATS:
        with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as product:
            with _opened_image(source, context) as image:
                facts = _image_facts(image)
                _write_image(_displayable(image), wanted, product)
            return {**facts, "output": _store(output, product, context)}
    with _table(source, context) as table, table.written_as(wanted) as product:
        return {"columns": table.columns, "rows": table.rows, "output": _store(output, product, context)}


def _compress(parameters: FileProcessingParameters, source: StoredFile, context: TaskContext) -> Facts:
    suffix = {"gzip": ".gz", "zip": ".zip", "bz2": ".bz2", "xz": ".xz"}[parameters.method]
    output = parameters.output or _derived_name(
        parameters, f"{PurePosixPath(parameters.filename).suffix}{suffix}", context
    )
    with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as product:
        with _compressor(parameters.method, parameters.filename, product) as target:
            for chunk in _chunks(source, context):
                target.write(chunk)
        return {"method": parameters.method, "output": _store(output, product, context)}


_OPERATIONS: dict[Operation, Callable[[FileProcessingParameters, StoredFile, TaskContext], Facts]] = {
    Operation.INSPECT: _inspect,
    Operation.CHECKSUM: _checksum,
    Operation.EXTRACT_TEXT: _extract_text,
    Operation.THUMBNAIL: _thumbnail,
    Operation.CONVERT: _convert,
    Operation.COMPRESS: _compress,
}


# --- bytes in and out


def _chunks(source: StoredFile, context: TaskContext) -> Iterator[bytes]:
    done = 0
    with context.files.open(source.filename) as content:
        while chunk := content.read(CHUNK_BYTES):
            yield chunk
            done += len(chunk)
            context.progress(done, source.size_bytes, "bytes")


def _store(output: str, product: IO[bytes], context: TaskContext) -> dict[str, Any]:
    product.seek(0)
    return asdict(context.files.save(output, cast(BinaryIO, product)))


def _derived_name(parameters: FileProcessingParameters, suffix: str, context: TaskContext) -> str:
    """Every attempt of a task makes the same file; no two tasks do."""
    stem = PurePosixPath(parameters.filename).stem.encode()[:80].decode(errors="ignore")
    safe_suffix = suffix if len(suffix.encode()) <= 40 else suffix[suffix.rindex(".") :]
    return check_filename(f"{stem}-{parameters.operation.value}-{context.task_id}{safe_suffix}")


@contextmanager
def _compressor(method: str, filename: str, product: IO[bytes]) -> Iterator[IO[bytes]]:
    """Repeatable: the same bytes in give the same bytes out, so no time of day goes in."""
    if method == "zip":
        entry = zipfile.ZipInfo(filename)
        entry.compress_type = zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(product, "w") as archive, archive.open(entry, "w") as target:
            yield target
    elif method == "bz2":
        with bz2.BZ2File(product, "wb") as target:
            yield cast(IO[bytes], target)
    elif method == "xz":
        with lzma.LZMAFile(product, "wb") as target:
            yield cast(IO[bytes], target)
    else:
        with gzip.GzipFile("", "wb", fileobj=product, mtime=0) as target:
            yield cast(IO[bytes], target)


# --- text


def _text_pieces(source: StoredFile, context: TaskContext) -> Iterator[str]:
    if source.mime_type == "application/pdf":
        with _opened_pdf(source, context) as pages:
            for number, page in enumerate(pages, start=1):
                text = page.extract_text().encode("utf-8", "replace").decode()  # broken fonts give lone surrogates
                yield text if number == 1 else f"\n{text}"
                context.progress(number, len(pages), "pages")
    elif is_textual(source.mime_type):
        yield from _decoded(source, _encoding(source, context), context)
    else:
        raise _unsupported(f"no text can be extracted from {source.mime_type}")


def _decoded(source: StoredFile, encoding: str, context: TaskContext) -> Iterator[str]:
    with (
        context.files.open(source.filename) as content,
        io.TextIOWrapper(content, encoding, errors="replace") as text,
    ):
        while piece := text.read(CHUNK_BYTES):
            yield piece


def _encoding(source: StoredFile, context: TaskContext) -> str:
    from charset_normalizer import from_bytes

    with context.files.open(source.filename) as content:
        sample = content.read(SAMPLE_BYTES)
    if sample.startswith(b"\xef\xbb\xbf"):
        return "utf-8-sig"
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        sample[: -4 if len(sample) == SAMPLE_BYTES else None].decode()
        return "utf-8"
    except UnicodeDecodeError as error:
        if len(sample) == SAMPLE_BYTES and error.start > SAMPLE_BYTES - 8:  # only the cut is broken
            return "utf-8"
    best = from_bytes(sample).best()
    return best.encoding if best is not None else "latin-1"


def _text_facts(source: StoredFile, context: TaskContext) -> Facts:
    encoding = _encoding(source, context)
    lines, words, ended_in_word, last = 0, 0, False, "\n"
    for piece in _decoded(source, encoding, context):
        lines += piece.count("\n")
        words += len(piece.split()) - (ended_in_word and not piece[0].isspace())
        last = piece[-1]
        ended_in_word = not last.isspace()
    return {"lines": lines + (last != "\n"), "words": words, "encoding": encoding}


# --- images


@contextmanager
def _opened_image(source: StoredFile, context: TaskContext) -> Iterator[Image.Image]:
    """Known to be small enough, not decoded yet. What breaks while decoding is the file's fault."""
    from PIL import Image

    pillow_format = READABLE_IMAGES.get(source.mime_type)
    if pillow_format is None:  # Pillow knows more, but some of it runs other programs
        raise _unsupported(f"{source.mime_type} is not an image this task can read")
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    try:
        with context.files.open(source.filename) as content, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(content, formats=[pillow_format]) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise _too_large(f"an image may have at most {MAX_PIXELS} pixels")
                yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(f"an image may have at most {MAX_PIXELS} pixels") from error
    except (OSError, *_BROKEN) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk, not the image
            raise
        raise _unsupported(f"{source.filename!r} is a broken image") from error


def _image_facts(image: Image.Image) -> Facts:
    return {"width": image.width, "height": image.height, "format": (image.format or "").lower()}


def _displayable(image: Image.Image) -> Image.Image:
    """A decoded copy that stands upright, in L, RGB or RGBA."""
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode == "CMYK":
        upright.info.pop("icc_profile", None)  # it describes CMYK
    if upright.has_transparency_data:
        return upright.convert("RGBA")
    if upright.mode in ("L", "RGB"):
        return upright
    if upright.mode.startswith("I;16"):  # Pillow would cut off what is brighter than 255
        upright = upright.convert("I").point(lambda value: value * (1 / 256))
    return upright.convert("L" if upright.mode.startswith(("1", "I", "F")) else "RGB")


def _write_image(picture: Image.Image, wanted: str, product: IO[bytes]) -> None:
    from PIL import Image

    profile = picture.info.get("icc_profile")
    if wanted == "jpeg" and picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture).convert("RGB")
    picture.save(product, wanted, icc_profile=profile)


# --- PDF


@contextmanager
def _opened_pdf(source: StoredFile, context: TaskContext) -> Iterator[Any]:
    """Its pages. What breaks while reading them is the file's fault."""
    from pypdf import PdfReader
    from pypdf.errors import LimitReachedError, PyPdfError

    try:
        with context.files.open(source.filename) as content:
            reader = PdfReader(content)
            if reader.is_encrypted:
                raise _unsupported(f"{source.filename!r} is encrypted")
            if len(reader.pages) > MAX_PAGES:
                raise _too_large(f"a PDF may have at most {MAX_PAGES} pages")
            yield reader.pages
    except LimitReachedError as error:
        raise _too_large(f"{source.filename!r} unpacks to too much") from error
    except (PyPdfError, *_BROKEN) as error:
        raise _unsupported(f"{source.filename!r} is a broken PDF") from error


# --- archives


class _GuardedReader:
    """A seekable stream of which nobody reads a huge piece at once: archives are asked for names, not for contents."""

    def __init__(self, stream: IO[bytes], max_read_bytes: int) -> None:
        self._stream, self._max_read_bytes = stream, max_read_bytes
        self.seek = stream.seek
        self.tell = stream.tell

    def read(self, size: int = -1) -> bytes:
        if size > self._max_read_bytes:
            raise _too_large("the archive's directory is too large")
        return self._stream.read(size if size >= 0 else self._max_read_bytes)

    def seekable(self) -> bool:
        return True


def _archive_facts(source: StoredFile, context: TaskContext) -> Facts | None:
    try:
        with context.files.open(source.filename) as content:
            magic = content.read(4)
            content.seek(0)
            if magic in (b"PK\x03\x04", b"PK\x05\x06"):
                return _counted(_zip_sizes(content))
            if source.mime_type == "application/x-tar":
                return _counted(_tar_sizes(content))
            if magic[:2] == b"\x1f\x8b":
                with gzip.GzipFile(fileobj=content) as unpacked:
                    return _counted(_gzip_sizes(cast(IO[bytes], unpacked)))
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, *_BROKEN) as error:
        raise _unsupported(f"{source.filename!r} is a broken archive") from error
    return None


def _counted(sizes: Iterator[tuple[int, int]]) -> Facts:
    """Stops at the first size beyond the limits, before anything of it is read."""
    entries = unpacked_bytes = 0
    for new_entries, size_bytes in sizes:
        entries += new_entries
        unpacked_bytes += size_bytes
        if entries > MAX_ARCHIVE_ENTRIES:
            raise _too_large(f"an archive may have at most {MAX_ARCHIVE_ENTRIES} entries")
        if unpacked_bytes > MAX_UNPACKED_BYTES:
            raise _too_large(f"an archive may unpack to at most {MAX_UNPACKED_BYTES} bytes")
    return {"kind": "archive", "entries": entries, "unpacked_bytes": unpacked_bytes}


def _zip_sizes(content: IO[bytes]) -> Iterator[tuple[int, int]]:
    with zipfile.ZipFile(cast(IO[bytes], _GuardedReader(content, MAX_ZIP_READ_BYTES))) as archive:
        for entry in archive.infolist():
            yield 1, entry.file_size


def _tar_sizes(content: IO[bytes]) -> Iterator[tuple[int, int]]:
    guarded = cast(IO[bytes], _GuardedReader(content, MAX_TAR_READ_BYTES))
    with tarfile.open(fileobj=guarded, mode="r:") as archive:
        while (member := archive.next()) is not None:
            yield 1, max(member.size, 0)


def _gzip_sizes(unpacked: IO[bytes]) -> Iterator[tuple[int, int]]:
    """A tar inside, or else the one file that is."""
    is_tar = unpacked.read(512)[257:262] == b"ustar"
    unpacked.seek(0)
    if is_tar:
        yield from _tar_sizes(unpacked)
    else:
        yield 1, 0
    rest_bytes = 0
    while chunk := unpacked.read(CHUNK_BYTES):  # after a tar only padding, read for gzip's own checksum
        rest_bytes += len(chunk)
        if rest_bytes > MAX_UNPACKED_BYTES:
            raise _too_large(f"an archive may unpack to at most {MAX_UNPACKED_BYTES} bytes")
        yield 0, 0 if is_tar else len(chunk)


# --- tables


class _Table:
    """A CSV, JSON, NDJSON or Parquet file as DuckDB reads it, in a directory of its own."""

    def __init__(self, connection: Any, reader: str, path: Path) -> None:
        self._connection, self._reader, self._path = connection, reader, path
        self.columns = [column[0] for column in self._execute(f"SELECT * FROM {reader} LIMIT 0").description]
        limited = f"SELECT count(*) FROM (SELECT 1 FROM {reader} LIMIT {MAX_ROWS + 1})"
        self.rows: int = self._execute(limited).fetchone()[0]
        if self.rows > MAX_ROWS:
            raise _too_large(f"a table may have at most {MAX_ROWS} rows")

    @contextmanager
    def written_as(self, wanted: str) -> Iterator[BinaryIO]:
        product = self._path.with_name("product")
        self._execute(f"COPY (SELECT * FROM {self._reader}) TO '{_quoted(product)}' ({TABLE_WRITERS[wanted]})")
        with product.open("rb") as content:
            yield content

    def _execute(self, statement: str) -> Any:
        return self._connection.execute(statement, [str(self._path)])


_DUCKDB_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "threads": 2,
    "memory_limit": "512MB",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


@contextmanager
def _table(source: StoredFile, context: TaskContext) -> Iterator[_Table]:
    import duckdb

    reader = TABLE_READERS.get(source.mime_type)
    if reader is None:
        raise _unsupported(f"{source.mime_type} is not a table this task can read")
    with (
        context.files.local_copy(source.filename) as original,
        tempfile.TemporaryDirectory(prefix="taskservice-") as directory,
    ):
        path = Path(directory, "source")  # DuckDB would take a * in an uploaded file's own name for a pattern
        path.symlink_to(Path(original).absolute())
        try:
            with duckdb.connect(":memory:", config=_DUCKDB_CONFIG) as connection:
                connection.execute(f"SET temp_directory = '{_quoted(Path(directory, 'spill'))}'")
                yield _Table(connection, reader, path)
        except duckdb.InterruptException:  # the task was stopped; the file may be fine
            raise
        except duckdb.OutOfMemoryException as error:
            raise _too_large(f"{source.filename!r} takes too much memory as a table") from error
        except duckdb.Error as error:
            raise _unsupported(f"{source.filename!r} cannot be read as a table") from error


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
