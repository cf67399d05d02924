"""What a handler may ask of the world: files, a mail server, receivers, marks that outlive an attempt.

Standard library only. Who provides it is the worker's business; a test can too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

WEBHOOK_ANSWERS = "webhook_answers"  # the mark under which a delivery notes status codes, by attempt


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An uploaded or produced file."""

    filename: str
    size_bytes: int
    sha256: str
    mime_type: str


class FileStore(Protocol):
    """Uploaded and produced files, by name (one path segment)."""

    def open(self, filename: str) -> BinaryIO:
        """Seekable, positioned at the start. Raises StoredFileNotFound, InvalidFileName."""

    def size_bytes(self, filename: str) -> int:
        """Raises StoredFileNotFound, InvalidFileName."""

    def local_copy(self, filename: str) -> AbstractContextManager[str]:
        """A path on this machine's disk, for libraries that insist on one; gone afterwards if it was a copy."""

    def save(self, filename: str, content: BinaryIO) -> StoredFile:
        """Write whole or not at all; replaces a file of that name. Raises UploadTooLarge, InvalidFileName."""

    def stat(self, filename: str) -> StoredFile:
        """Reads the file once for its checksum. Raises StoredFileNotFound, InvalidFileName."""

    def list(self) -> Iterator[StoredFile]:
        """All files, by name."""

    def delete(self, filename: str) -> None:
        """Raises StoredFileNotFound, InvalidFileName."""


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where e-mail goes."""

    host: str
    port: int
    sender: str  # From, and the envelope's sender
    security: str = "none"  # none, starttls or tls
    username: str | None = None
    password: str | None = None
    timeout_s: float = 20.0


class Receivers(Protocol):
    """How fast the hosts of webhooks answer, over all workers together."""

    def may_ask(self, host: str) -> bool:
        """False for a host that was slow lately, unless it is its turn to be asked again."""

    def note(self, host: str, *, took_s: float, has_answered: bool) -> None:
        """How it went this time."""


class TaskContext(Protocol):
    """What a handler may ask of the world; the worker provides it, a test can too."""

    @property
    def task_id(self) -> str: ...

    @property
    def attempt(self) -> int: ...

    @property
    def files(self) -> FileStore: ...

    @property
    def mail_server(self) -> MailServer: ...

    @property
    def allows_private_webhooks(self) -> bool:
        """Whether webhooks may go to plain http, loopback and private addresses: in development only."""

    @property
    def receivers(self) -> Receivers: ...

    def progress(self, current: int, total: int, message: str = "") -> None:
        """Tell the reader how far it is. Cheap to call often: it is thinned out to a few a second."""

    def sent_mark(self, key: str) -> Any | None:
        """What `set_sent_mark` stored under this key for this task by an earlier attempt, or None."""

    def set_sent_mark(self, key: str, value: Any) -> None:
        """Remember, across attempts, that an effect has happened; `value` is JSON."""

    def webhook_secrets(self, key_id: str | None) -> tuple[str, ...]:
        """What signs the webhooks of this API key, `whsec_…`, the newest first; None: of a service without keys."""
