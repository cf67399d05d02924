"""The one error tree. An exception carries the decision, so nobody downstream guesses.

Knows nothing of HTTP, Celery or Redis: the rooms at the border translate.
"""

from __future__ import annotations

from dataclasses import dataclass


class TaskServiceError(Exception):
    """Anything this service raises on purpose."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong with a request: where (RFC 6901 pointer) and what was expected."""

    pointer: str
    detail: str


class InvalidSubmission(TaskServiceError):
    """The request does not validate; nothing was stored."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(f"{error.pointer}: {error.detail}" for error in errors))
        self.errors = errors


class InvalidFileName(InvalidSubmission):
    """A file name that is not one safe path segment."""

    def __init__(self, detail: str, pointer: str = "/filename") -> None:
        super().__init__([FieldError(pointer, detail)])


class StoredFileNotFound(TaskServiceError):
    """No uploaded file has this name."""

    def __init__(self, filename: str) -> None:
        super().__init__(f"no uploaded file is named {filename!r}")
        self.filename = filename


class UploadTooLarge(TaskServiceError):
    """An upload is larger than MAX_UPLOAD_BYTES."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"an upload may have at most {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


class Unavailable(TaskServiceError):
    """The broker or the store cannot be reached in time. `outcome` says what became of the task."""

    def __init__(self, missing: str, *, outcome: str | None = None) -> None:
        super().__init__(f"{missing} cannot be reached")
        self.missing = missing  # "broker" or "store"
        self.outcome = outcome  # "refused", "unknown", or None where nothing was submitted


class ConfigurationError(TaskServiceError):
    """A setting is wrong. The message names the variable, its value and the expected form."""


class TaskError(TaskServiceError):
    """Raised by a handler. `code` is stable (API.md lists them); the message is for people."""

    retryable = False

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)  # both, so that the exception survives pickling
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


class TransientError(TaskError):
    """Worth another attempt: a mailbox that is busy, a server that restarts."""

    retryable = True


class PermanentError(TaskError):
    """Will fail the same way again: a missing file, an address that does not exist."""


class TaskCancelled(TaskServiceError):
    """A client wants the running task to stop; raised where its handler reports progress."""
