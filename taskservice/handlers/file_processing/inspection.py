"""Operation `inspect`: which kind of file it is, and what that kind offers.

Must not know how a kind is read.
"""

from __future__ import annotations

from typing import Any

from taskservice.context import StoredFile, TaskContext
from taskservice.errors import PermanentError
from taskservice.file_kinds import is_textual
from taskservice.handlers.file_processing.archive import archive_facts
from taskservice.handlers.file_processing.image import READABLE_IMAGES, image_facts
from taskservice.handlers.file_processing.parameters import FileProcessingParameters
from taskservice.handlers.file_processing.pdf import PDF, pdf_facts
from taskservice.handlers.file_processing.table import TABLE_READERS, table_facts
from taskservice.handlers.file_processing.text import text_facts


def inspect(parameters: FileProcessingParameters, source: StoredFile, context: TaskContext) -> dict[str, Any]:
    """`kind`, and the facts of that kind."""
    mime_type = source.mime_type
    if mime_type in READABLE_IMAGES:
        return {"kind": "image", **image_facts(source, context)}
    if mime_type == PDF:
        return {"kind": "pdf", **pdf_facts(source, context)}
    if mime_type in TABLE_READERS:
        try:
            return {"kind": "table", **table_facts(source, context)}
        except PermanentError as error:
            if error.code != "unsupported_file" or not is_textual(mime_type):
                raise  # else: not a table after all, but text it is
    if is_textual(mime_type):
        return {"kind": "text", **text_facts(source, context)}
    facts = archive_facts(source, context)
    return {"kind": "other"} if facts is None else {"kind": "archive", **facts}
