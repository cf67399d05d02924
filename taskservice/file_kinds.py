"""What kind of file something is, by how it begins and what it is called.

Must not know where files are kept.
"""

from __future__ import annotations

import codecs
import mimetypes

import filetype

_TEXT_TYPES = (
    "application/json",
    "application/xml",
    "application/x-ndjson",
    "application/javascript",
    "application/x-sh",
)
_UTF16_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

_types_by_name = mimetypes.MimeTypes()  # Python's own table, not the machine's, so every machine answers the same
for _suffix, _type in (
    (".parquet", "application/vnd.apache.parquet"),
    (".ndjson", "application/x-ndjson"),
    (".jsonl", "application/x-ndjson"),
    (".md", "text/markdown"),
    (".webp", "image/webp"),
    (".yaml", "application/yaml"),
    (".yml", "application/yaml"),
    (".log", "text/plain"),
):
    _types_by_name.add_type(_type, _suffix)


def guess_mime_type(filename: str, head: bytes) -> str:
    """By content first; the name only decides between types that fit what the first bytes look like."""
    if head.startswith(b"PAR1"):
        return "application/vnd.apache.parquet"
    kind = filetype.guess_mime(head) if head else None
    if kind is not None:
        return str(kind)
    named, encoding = _types_by_name.guess_type(filename)
    if named is None or encoding is not None:  # the type of what is inside a compressed file
        named = "application/octet-stream"
    if any(byte < 32 and byte not in b"\t\n\r\f\b\x1b" for byte in head) and not head.startswith(_UTF16_BOMS):
        return "application/octet-stream" if is_textual(named) else named
    if is_textual(named):  # in whatever encoding
        return named
    return "text/plain" if _is_utf8(head) or head.startswith(_UTF16_BOMS) else named


def is_textual(mime_type: str) -> bool:
    """Whether files of this type are characters in some encoding."""
    return mime_type.startswith("text/") or mime_type.endswith(("+xml", "+json", "/yaml")) or mime_type in _TEXT_TYPES


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=False)  # the head may end inside a character
    except UnicodeDecodeError:
        return False
    return True
