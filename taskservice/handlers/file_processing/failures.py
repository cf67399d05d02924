"""Why a file cannot be processed, as errors, and what parsers raise when a file is broken.

Must not know any kind of file.
"""

from __future__ import annotations

import struct
import zlib

from taskservice.errors import PermanentError

# What a broken file makes a parser raise besides its own errors.
BROKEN = (
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


def too_large(message: str) -> PermanentError:
    return PermanentError("file_too_large", message)


def unsupported(message: str) -> PermanentError:
    return PermanentError("unsupported_file", message)
