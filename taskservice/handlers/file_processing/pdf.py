"""PDF: its pages and their text.

Must not know what becomes of the text. pypdf is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from taskservice.context import StoredFile, TaskContext
from taskservice.handlers.file_processing.failures import BROKEN, too_large, unsupported

PDF = "application/pdf"
MAX_PAGES = 2000


def pdf_facts(source: StoredFile, context: TaskContext) -> dict[str, Any]:
    with context.files.open(source.filename) as content, _broken_is_unsupported(source.filename):
        return {"pages": len(_pages(content, source.filename))}


def page_texts(source: StoredFile, context: TaskContext) -> Iterator[tuple[int, str]]:
    """Page by page: how many pages there are, and the text of this one."""
    with context.files.open(source.filename) as content:
        with _broken_is_unsupported(source.filename):
            pages = _pages(content, source.filename)
            count = len(pages)
        for number in range(count):
            with _broken_is_unsupported(source.filename):
                text = str(pages[number].extract_text())
            yield count, text.encode("utf-8", "replace").decode()  # broken fonts give lone surrogates


def _pages(content: IO[bytes], filename: str) -> Any:
    from pypdf import PdfReader

    reader = PdfReader(content)
    if reader.is_encrypted:
        raise unsupported(f"{filename!r} is encrypted")
    if len(reader.pages) > MAX_PAGES:
        raise too_large(f"a PDF may have at most {MAX_PAGES} pages")
    return reader.pages


@contextmanager
def _broken_is_unsupported(filename: str) -> Iterator[None]:
    """What breaks while pypdf reads is the file's fault."""
    from pypdf.errors import LimitReachedError, PyPdfError

    try:
        yield
    except LimitReachedError as error:
        raise too_large(f"{filename!r} unpacks to too much") from error
    except (PyPdfError, *BROKEN) as error:
        raise unsupported(f"{filename!r} is a broken PDF") from error
