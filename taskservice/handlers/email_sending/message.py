"""The message that is sent: headers, text, HTML and attachments.

Must not know SMTP, nor who takes the message and who does not.
"""

from __future__ import annotations

import mimetypes
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime

from taskservice.context import TaskContext
from taskservice.errors import InvalidFileName, PermanentError, StoredFileNotFound
from taskservice.handlers.email_sending.addresses import listed, sender_domain
from taskservice.handlers.email_sending.parameters import EmailParameters
from taskservice.model import now

MAX_ATTACHMENT_BYTES = 10 * 2**20  # of all attachments together, before base64


def compose(parameters: EmailParameters, ctx: TaskContext) -> EmailMessage:
    """The message as every recipient gets it: bcc is in the envelope only."""
    message = EmailMessage(policy=_message_policy(parameters))
    message["From"] = ctx.mail_server.sender
    message["To"] = ", ".join(listed(parameters.to))
    if parameters.cc:
        message["Cc"] = ", ".join(listed(parameters.cc))
    if parameters.reply_to:
        message["Reply-To"] = parameters.reply_to
    message["Subject"] = parameters.subject
    message["Date"] = format_datetime(now())
    message["Message-ID"] = message_id(ctx)
    _add_content(message, parameters)
    _add_attachments(message, parameters.attachments, ctx)
    return message


def _message_policy(parameters: EmailParameters) -> policy.EmailPolicy[EmailMessage]:
    """7bit, because not every server offers 8BITMIME; UTF-8 headers only where an address needs them (RFC 6531)."""
    addresses = [*parameters.recipients, parameters.reply_to or ""]
    return policy.SMTP.clone(cte_type="7bit", utf8=not all(address.isascii() for address in addresses))


def _add_content(message: EmailMessage, parameters: EmailParameters) -> None:
    if parameters.body is None:
        message.set_content(parameters.html or "", subtype="html")
        return
    message.set_content(parameters.body)
    if parameters.html is not None:
        message.add_alternative(parameters.html, subtype="html")


def _add_attachments(message: EmailMessage, filenames: list[str], ctx: TaskContext) -> None:
    left_bytes = MAX_ATTACHMENT_BYTES
    for filename in filenames:
        content = _read(filename, left_bytes, ctx)
        left_bytes -= len(content)
        maintype, subtype = _mime_type(filename)
        message.add_attachment(content, maintype=maintype, subtype=subtype, filename=filename)


def _read(filename: str, limit_bytes: int, ctx: TaskContext) -> bytes:
    try:
        with ctx.files.open(filename) as file:
            content = file.read(limit_bytes + 1)
    except (StoredFileNotFound, InvalidFileName) as error:
        raise PermanentError("file_not_found", f"attachment {filename!r}: no uploaded file has this name") from error
    if len(content) > limit_bytes:
        limit = f"{MAX_ATTACHMENT_BYTES // 2**20} MiB"
        raise PermanentError("file_too_large", f"attachment {filename!r}: all attachments together may have {limit}")
    return content


def _mime_type(filename: str) -> tuple[str, str]:
    guessed, encoding = mimetypes.guess_type(filename)
    maintype, _, subtype = (guessed or "").partition("/")
    if encoding or not subtype or maintype in ("message", "multipart"):  # RFC 2046 5.2.1: those must not be base64
        return "application", "octet-stream"
    return maintype, subtype


def message_id(ctx: TaskContext) -> str:
    return f"<{ctx.task_id}@{sender_domain(ctx.mail_server)}>"
