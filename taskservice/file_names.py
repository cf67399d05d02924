"""Which names are safe for a file, on every platform.

Must not know where files are kept.
"""

from __future__ import annotations

import re
import unicodedata

from taskservice.errors import InvalidFileName

MAX_NAME_BYTES = 200

_FORBIDDEN_CATEGORIES = ("Cc", "Zl", "Zp")
_DRIVE = re.compile(r"^[A-Za-z]:")
_RESERVED = re.compile(r"^(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)", re.IGNORECASE)


def check_filename(name: str, pointer: str = "/filename") -> str:
    """The name in NFC if it is one safe path segment on every platform. Raises InvalidFileName, at `pointer`."""
    name = unicodedata.normalize("NFC", name)
    complaint = _complaint(name)
    if complaint:
        raise InvalidFileName(complaint, pointer)
    return name


def _complaint(name: str) -> str | None:
    if not name.strip():
        return "a file name must not be empty"
    if any("\ud800" <= character <= "\udfff" for character in name):
        return "a file name must be valid Unicode, without lone surrogates"
    if any(unicodedata.category(character) in _FORBIDDEN_CATEGORIES for character in name):
        return "a file name must not contain NUL or other control characters"
    if "/" in name or "\\" in name or _DRIVE.match(name):
        return "a file name is one path segment: no directory, no / and no \\"
    if name.startswith("."):
        return "a file name must not start with a dot"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"a file name may have at most {MAX_NAME_BYTES} bytes in UTF-8"
    if _RESERVED.match(name):
        return "a file name must not be one that Windows reserves for a device"
    return None
