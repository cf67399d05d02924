"""Text: what `inspect` tells of it, and operation `extract_text`, which also reads PDF.

Must not know how a PDF is read.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from taskservice.context import StoredFile, TaskContext
from taskservice.file_kinds import is_textual
from taskservice.files import CHUNK_BYTES
from taskservice.handlers.file_processing.failures import unsupported
from taskservice.handlers.file_processing.parameters import FileProcessingParameters
from taskservice.handlers.file_processing.pdf import PDF, page_texts
from taskservice.handlers.file_processing.product import new_product, store

MAX_INLINE_CHARACTERS = 100_000
SAMPLE_BYTES = 256 * 2**10  # what an encoding is told from


def text_facts(source: StoredFile, context: TaskContext) -> dict[str, Any]:
    """`{lines, words, encoding}`; a last line counts without its line break too."""
    encoding = _encoding(source, context)
    lines, words, ended_in_word, last = 0, 0, False, "\n"
    for piece in _decoded(source, encoding, context):
        lines += piece.count("\n")
        words += len(piece.split()) - (ended_in_word and not piece[0].isspace())
        last = piece[-1]
        ended_in_word = not last.isspace()
    return {"lines": lines + (last != "\n"), "words": words, "encoding": encoding}


def extract_text(parameters: FileProcessingParameters, source: StoredFile, context: TaskContext) -> dict[str, Any]:
    """`{text, truncated}`; with `output`, the whole text goes there."""
    inline, length = "", 0
    with new_product() as product:
        for piece in _pieces(source, context):
            length += len(piece)
            inline += piece[: MAX_INLINE_CHARACTERS - len(inline)]
            if parameters.output is not None:
                product.write(piece.encode())
            elif length > MAX_INLINE_CHARACTERS:
                break
        facts: dict[str, Any] = {"text": inline, "truncated": length > MAX_INLINE_CHARACTERS}
        if parameters.output is not None:
            facts["output"] = store(parameters.output, product, context)
    return facts


def _pieces(source: StoredFile, context: TaskContext) -> Iterator[str]:
    if source.mime_type == PDF:
        for number, (pages, text) in enumerate(page_texts(source, context), start=1):
            yield text if number == 1 else f"\n{text}"
            context.progress(number, pages, "pages")
    elif is_textual(source.mime_type):
        yield from _decoded(source, _encoding(source, context), context)
    else:
        raise unsupported(f"no text can be extracted from {source.mime_type}")


def _decoded(source: StoredFile, encoding: str, context: TaskContext) -> Iterator[str]:
    with (
        context.files.open(source.filename) as content,
        io.TextIOWrapper(content, encoding, errors="replace") as text,
    ):
        while piece := text.read(CHUNK_BYTES):
            yield piece
            context.progress(content.tell(), source.size_bytes, "bytes")


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
