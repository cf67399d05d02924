"""Task type `email_sending`: one e-mail over SMTP; a retry goes only to recipients whose answer is still open.

Must not know of queues, Redis or HTTP: what happened before is in the context's sent mark.
"""

from __future__ import annotations

import base64
import mimetypes
import re
import smtplib
import socket
import ssl
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import Annotated, Any

from email_validator import EmailNotValidError, validate_email
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from taskservice.errors import InvalidFileName, PermanentError, StoredFileNotFound, TaskError, TransientError
from taskservice.handlers import task_type
from taskservice.model import MailServer, TaskContext, now

MAX_ADDRESSES = 50  # in each of to, cc and bcc
MAX_RECIPIENTS = 100  # RFC 5321 4.5.3.1.8: what every server must take in one transaction
MAX_ATTACHMENTS = 10
MAX_ATTACHMENT_BYTES = 10 * 2**20  # of all attachments together, before base64
_MAX_ADDRESS_LENGTH = 254
_MAX_REPLY_LENGTH = 200
_MARK = "email"


def _address(value: str) -> str:
    """The address in the form SMTP wants: domain in ASCII, and the local part too unless it cannot be."""
    if len(value) > _MAX_ADDRESS_LENGTH:
        raise PydanticCustomError("email_address", "an e-mail address has at most 254 characters")
    try:
        valid = validate_email(value, check_deliverability=False)
    except EmailNotValidError as error:
        reason = str(error)
        raise PydanticCustomError("email_address", "not an e-mail address: {reason}", {"reason": reason}) from error
    return valid.ascii_email or valid.normalized


def _one_line(value: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in value):
        raise PydanticCustomError("one_line", "line breaks and control characters are not allowed here")
    return value


def _file_name(value: str) -> str:
    if value in (".", "..") or "/" in value or "\\" in value:
        raise PydanticCustomError("file_name", "expected the name of an uploaded file, without any path")
    return _one_line(value)


Address = Annotated[str, AfterValidator(_address), WithJsonSchema({"type": "string", "format": "email"})]
FileName = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_file_name)]

_address_list: TypeAdapter[list[str]] = TypeAdapter(
    Annotated[list[Address], Field(min_length=1, max_length=MAX_ADDRESSES)]
)


def _one_or_many(value: Any) -> str | list[str]:
    """A union would put its branches' names into the error's location, and the client's pointer would lead nowhere."""
    if isinstance(value, str):
        return _address(value)
    if not isinstance(value, list):
        raise PydanticCustomError("addresses", "expected an e-mail address or a list of them")
    return _address_list.validate_python(value)


Addresses = Annotated[
    str | list[str],
    PlainValidator(_one_or_many),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "email"},
                {
                    "type": "array",
                    "items": {"type": "string", "format": "email"},
                    "minItems": 1,
                    "maxItems": MAX_ADDRESSES,
                },
            ]
        }
    ),
]


class EmailParameters(BaseModel):
    """What to send to whom. From is the deployment's (`SMTP_FROM`), never the client's."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"anyOf": [{"required": ["body"]}, {"required": ["html"]}]}
    )

    to: Addresses = Field(description="One address, or a list of up to 50.")
    cc: Addresses | None = Field(None, description="One address or a list; every recipient sees them.")
    bcc: Addresses | None = Field(None, description="One address or a list; no recipient sees them.")
    reply_to: Address | None = Field(None, description="Where answers go, if not to the sender.")
    subject: Annotated[str, AfterValidator(_one_line)] = Field(min_length=1, max_length=998)
    body: str | None = Field(None, description="Plain text. Either this or html is needed, or both.")
    html: str | None = Field(None, description="HTML; with body as its plain-text alternative if both are given.")
    attachments: list[FileName] = Field(
        default_factory=list,
        max_length=MAX_ATTACHMENTS,
        description="Names of uploaded files, together up to 10 MiB.",
    )

    @model_validator(mode="after")
    def _is_complete(self) -> EmailParameters:
        if self.body is None and self.html is None:
            raise _field_error("body", "body or html is required")
        if len(self.recipients) > MAX_RECIPIENTS:
            raise _field_error(
                "to", f"to, cc and bcc have {len(self.recipients)} recipients, {MAX_RECIPIENTS} are allowed"
            )
        return self

    @property
    def recipients(self) -> list[str]:
        """Everyone in to, cc and bcc, each once, in that order."""
        return list(dict.fromkeys([*_listed(self.to), *_listed(self.cc), *_listed(self.bcc)]))


def _field_error(field: str, message: str) -> ValidationError:
    """An error of the whole model that points at one field."""
    error = PydanticCustomError("email", "{text}", {"text": message})
    return ValidationError.from_exception_data("EmailParameters", [{"type": error, "loc": (field,), "input": None}])


def _listed(addresses: str | list[str] | None) -> list[str]:
    if addresses is None:
        return []
    return [addresses] if isinstance(addresses, str) else addresses


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What the server answered for a recipient it did not take."""

    address: str
    code: int
    message: str

    @property
    def is_final(self) -> bool:
        return _is_permanent(self.code)

    def __str__(self) -> str:
        return f"{self.address}: {self.code} {self.message}"


@dataclass(frozen=True, slots=True)
class _Delivery:
    """Who has the message, and who was refused for good or for now."""

    accepted: tuple[str, ...] = ()
    refused: tuple[_Refusal, ...] = ()

    @classmethod
    def from_mark(cls, mark: Mapping[str, Any] | None) -> _Delivery:
        if mark is None:
            return cls()
        return cls(tuple(mark["accepted"]), tuple(_Refusal(**refusal) for refusal in mark["refused"]))

    def to_mark(self) -> dict[str, Any]:
        """What must not be tried again, as JSON values."""
        return {
            "accepted": list(self.accepted),
            "refused": [_refusal_json(refusal) for refusal in self.refused if refusal.is_final],
        }

    def waiting(self, recipients: Iterable[str]) -> list[str]:
        settled = {*self.accepted, *(refusal.address for refusal in self.refused if refusal.is_final)}
        return [address for address in recipients if address not in settled]

    def plus(self, other: _Delivery) -> _Delivery:
        return _Delivery(self.accepted + other.accepted, self.refused + other.refused)


def _refusal_json(refusal: _Refusal) -> dict[str, Any]:
    return {"address": refusal.address, "code": refusal.code, "message": refusal.message}


@task_type(
    "email_sending",
    parameters=EmailParameters,
    max_retries=3,
    time_limit_s=120,
    example={"to": "ada@example.com", "subject": "Hello", "body": "The report is ready."},
)
def send_email(parameters: EmailParameters, ctx: TaskContext) -> Mapping[str, Any]:
    """Send an e-mail, as text, HTML or both, with uploaded files as attachments.

    Result: `{message_id, accepted: [address], refused: [{address, code, message}]}`. The sent mark is set between the
    server's acceptance and anything that can fail after it, so that only a crash in that moment sends a message twice,
    and then with the same Message-ID.
    """
    delivery = _Delivery.from_mark(ctx.sent_mark(_MARK))
    waiting = delivery.waiting(parameters.recipients)
    if waiting:
        message = _compose(parameters, ctx)
        with _connected(ctx.mail_server) as smtp:
            latest = _transmit(smtp, message, waiting, server=ctx.mail_server)
            delivery = delivery.plus(latest)
            if latest.accepted:
                ctx.set_sent_mark(_MARK, delivery.to_mark())
    ctx.progress(len(delivery.accepted), len(parameters.recipients), "recipients")
    _raise_unless_settled(delivery)
    return {
        "message_id": _message_id(ctx),
        "accepted": [address for address in parameters.recipients if address in delivery.accepted],
        "refused": [_refusal_json(refusal) for refusal in delivery.refused],
    }


def _raise_unless_settled(delivery: _Delivery) -> None:
    """Raises TransientError if a recipient is to be tried again, PermanentError if none was accepted."""
    later = [refusal for refusal in delivery.refused if not refusal.is_final]
    if later:
        sent = f"delivered to {len(delivery.accepted)}; " if delivery.accepted else ""
        listed = "; ".join(map(str, delivery.refused if not delivery.accepted else later))
        raise TransientError("smtp_unavailable", f"{sent}the mail server put off {listed}")
    if not delivery.accepted:
        listed = "; ".join(map(str, delivery.refused))
        raise PermanentError("smtp_refused", f"the mail server refused every recipient: {listed}")


def _compose(parameters: EmailParameters, ctx: TaskContext) -> EmailMessage:
    """The message as every recipient gets it: bcc is in the envelope only."""
    message = EmailMessage(policy=_message_policy(parameters))
    message["From"] = ctx.mail_server.sender
    message["To"] = ", ".join(_listed(parameters.to))
    if parameters.cc:
        message["Cc"] = ", ".join(_listed(parameters.cc))
    if parameters.reply_to:
        message["Reply-To"] = parameters.reply_to
    message["Subject"] = parameters.subject
    message["Date"] = format_datetime(now())
    message["Message-ID"] = _message_id(ctx)
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


def _message_id(ctx: TaskContext) -> str:
    return f"<{ctx.task_id}@{_sender_domain(ctx.mail_server)}>"


def _sender_domain(server: MailServer) -> str:
    return _sender_address(server).rpartition("@")[2]


def _sender_address(server: MailServer) -> str:
    return parseaddr(server.sender)[1]


@contextmanager
def _connected(server: MailServer) -> Iterator[smtplib.SMTP]:
    """A session that is encrypted and logged in as configured. How it ends never matters: the answer to DATA counts."""
    with _translated(server):
        smtp = _connect(server)
    try:
        with _translated(server):
            _secure_and_log_in(smtp, server)
        yield smtp
        with suppress(smtplib.SMTPException, OSError):
            smtp.quit()
    finally:
        smtp.close()


def _connect(server: MailServer) -> smtplib.SMTP:
    # Without a name of ours, smtplib asks the DNS for one, without a time-out.
    name = _sender_domain(server)
    if server.security == "tls":
        tls = ssl.create_default_context()
        return smtplib.SMTP_SSL(server.host, server.port, name, timeout=server.timeout_s, context=tls)
    return smtplib.SMTP(server.host, server.port, name, timeout=server.timeout_s)


def _secure_and_log_in(smtp: smtplib.SMTP, server: MailServer) -> None:
    smtp.ehlo_or_helo_if_needed()
    if server.security == "starttls":
        if not smtp.has_extn("starttls"):
            raise TransientError("smtp_unavailable", "the mail server does not offer STARTTLS, which is required here")
        smtp.starttls(context=ssl.create_default_context())
        smtp.ehlo_or_helo_if_needed()
    if server.username is not None:
        _log_in(smtp, server.username, server.password or "")


def _log_in(smtp: smtplib.SMTP, username: str, password: str) -> None:
    try:
        smtp.login(username, password)
    except smtplib.SMTPNotSupportedError as error:
        raise PermanentError("smtp_refused", "the mail server does not offer the login that is configured") from error
    except UnicodeError:  # its text repeats the password, so it is not kept as the cause either
        raise PermanentError("smtp_refused", "the mail server's login must be in ASCII") from None


def _transmit(smtp: smtplib.SMTP, message: EmailMessage, recipients: list[str], *, server: MailServer) -> _Delivery:
    """One mail transaction. By hand, because `sendmail` forgets who was refused when DATA is refused as well."""
    content = message.as_bytes()
    with _translated(server):
        utf8 = not content.isascii() or not all(address.isascii() for address in recipients)
        _begin(smtp, server, size_bytes=len(content), utf8=utf8)
        refused = _offer_recipients(smtp, recipients, server)
        taken = [address for address in recipients if address not in refused]
        if not taken:
            return _Delivery(refused=tuple(refused.values()))
        code, text = _send_content(smtp, content)
    if _is_positive(code):
        return _Delivery(tuple(taken), tuple(refused.values()))
    refused |= {address: _Refusal(address, code, _readable(text, server)) for address in taken}
    return _Delivery(refused=tuple(refused.values()))


def _begin(smtp: smtplib.SMTP, server: MailServer, *, size_bytes: int, utf8: bool) -> None:
    options = [f"size={size_bytes}"] if smtp.has_extn("size") else []
    if utf8:
        if not smtp.has_extn("smtputf8"):
            raise PermanentError("smtp_refused", "the mail server takes only addresses in ASCII")
        options += ["SMTPUTF8", "BODY=8BITMIME"]
    code, text = smtp.mail(_sender_address(server), options)
    if not _is_positive(code):
        raise smtplib.SMTPResponseException(code, text)


def _offer_recipients(smtp: smtplib.SMTP, recipients: list[str], server: MailServer) -> dict[str, _Refusal]:
    """Those the server does not take. After 421 it hangs up (RFC 5321 3.8), so that answer is everybody's."""
    refused = {}
    for address in recipients:
        code, text = smtp.rcpt(address)
        if code == 421:
            raise smtplib.SMTPResponseException(code, text)
        if not _is_positive(code):
            refused[address] = _Refusal(address, code, _readable(text, server))
    return refused


def _send_content(smtp: smtplib.SMTP, content: bytes) -> tuple[int, bytes]:
    try:
        return smtp.data(content)
    except smtplib.SMTPDataError as error:  # refused before a byte of it was sent
        return error.smtp_code, _as_bytes(error.smtp_error)


@contextmanager
def _translated(server: MailServer) -> Iterator[None]:
    """What the mail server or the way to it did wrong, as the error that decides about a retry.

    Raises TransientError or PermanentError. Their messages carry the server's code and text, but neither credentials
    nor host names.
    """
    try:
        yield
    except smtplib.SMTPResponseException as error:
        raise _from_reply(error, server) from None  # the original may repeat what `_readable` blanks
    except (smtplib.SMTPException, OSError) as error:
        raise TransientError("smtp_unavailable", _describe(error, server)) from error


def _from_reply(error: smtplib.SMTPResponseException, server: MailServer) -> TaskError:
    answer = f"{error.smtp_code} {_readable(_as_bytes(error.smtp_error), server)}"
    if _is_permanent(error.smtp_code):
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


def _readable(text: bytes, server: MailServer) -> str:
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


def _as_bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _is_positive(code: int) -> bool:
    return 200 <= code < 300


def _is_permanent(code: int) -> bool:
    """Anything that is neither yes nor a clear no, such as a garbled answer, is worth another attempt."""
    return 500 <= code < 600
