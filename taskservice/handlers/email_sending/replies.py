"""What the mail server answers, or fails to, as the error that decides about a retry; without secrets in it.

Must not know what was asked.
"""

from __future__ import annotations

import base64
import re
import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from taskservice.context import MailServer
from taskservice.errors import PermanentError, TaskError, TransientError

_MAX_REPLY_LENGTH = 200


@contextmanager
def translated(server: MailServer) -> Iterator[None]:
    """What the mail server or the way to it did wrong, as the error that decides about a retry.

    Raises TransientError or PermanentError. Their messages carry the server's code and text, but neither credentials
    nor host names.
    """
    try:
        yield
    except smtplib.SMTPResponseException as error:
        raise _from_reply(error, server) from None  # the original may repeat what `readable` blanks
    except (smtplib.SMTPException, OSError) as error:
        raise TransientError("smtp_unavailable", _describe(error, server)) from error


def _from_reply(error: smtplib.SMTPResponseException, server: MailServer) -> TaskError:
    answer = f"{error.smtp_code} {readable(as_bytes(error.smtp_error), server)}"
    if is_permanent(error.smtp_code):
        return PermanentError("smtp_refused", f"the mail server refused: {answer}")
    return TransientError("smtp_unavailable", f"the mail server put it off: {answer}")


def _describe(error: Exception, server: MailServer) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message.partition(",")[0]  # what follows the comma is the host's name
        return f"the mail server's certificate is not trusted: {reason}"
    if isinstance(error, ssl.SSLError):
        return "no encrypted connection to the mail server could be agreed on"
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
        return f"the mail server did not answer within {server.timeout_s:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "the mail server refused the connection"
    if isinstance(error, socket.gaierror):
        return "the mail server's name cannot be resolved"
    return "the connection to the mail server failed"


def readable(text: bytes, server: MailServer) -> str:
    """The server's text on one line, cut to a sane length, with our credentials and its host's name blanked."""
    line = " ".join(text.decode("utf-8", "replace").split())
    for secret in _secrets(server):
        line = re.sub(rf"(?<![\w@.-]){re.escape(secret)}(?!\w)", "***", line)
    return "".join(character if character.isprintable() else "?" for character in line)[:_MAX_REPLY_LENGTH]


def _secrets(server: MailServer) -> list[str]:
    """Also as AUTH sends them, because some servers repeat the line they did not like; the longest first."""
    username, password = server.username or "", server.password or ""
    plain = [server.host, username, password]
    encoded = [base64.b64encode(part.encode()).decode() for part in (username, password, f"\0{username}\0{password}")]
    return sorted((secret for secret in plain + encoded if secret.strip("\0")), key=len, reverse=True)


def as_bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def is_positive(code: int) -> bool:
    return 200 <= code < 300


def is_permanent(code: int) -> bool:
    """Anything that is neither yes nor a clear no, such as a garbled answer, is worth another attempt."""
    return 500 <= code < 600
