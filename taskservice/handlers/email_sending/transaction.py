"""One mail transaction: the envelope, the content, and who of the recipients has it now.

By hand, because `sendmail` forgets who was refused when DATA is refused as well. Must not know what is in the message.
"""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from email.message import EmailMessage

from taskservice.context import MailServer
from taskservice.errors import PermanentError
from taskservice.handlers.email_sending.addresses import sender_address
from taskservice.handlers.email_sending.delivery import Delivery, Refusal
from taskservice.handlers.email_sending.replies import as_bytes, is_positive, readable, translated


def transmit(
    smtp: smtplib.SMTP,
    message: EmailMessage,
    recipients: list[str],
    *,
    server: MailServer,
    on_offered: Callable[[int], None],
) -> Delivery:
    """Offer the message to all recipients at once. `on_offered` gets how many the server has been asked for.

    What `on_offered` raises ends the transaction before anybody has the message. Raises TransientError,
    PermanentError.
    """
    content = message.as_bytes()
    with translated(server):
        _begin(smtp, server, size_bytes=len(content), utf8=_needs_utf8(content, recipients))
    refused = _offer_all(smtp, recipients, server, on_offered)
    taken = [address for address in recipients if address not in refused]
    if not taken:
        return Delivery(refused=tuple(refused.values()))
    with translated(server):
        code, text = _send_content(smtp, content)
    if is_positive(code):
        return Delivery(tuple(taken), tuple(refused.values()))
    refused |= {address: Refusal(address, code, readable(text, server)) for address in taken}
    return Delivery(refused=tuple(refused.values()))


def _begin(smtp: smtplib.SMTP, server: MailServer, *, size_bytes: int, utf8: bool) -> None:
    options = [f"size={size_bytes}"] if smtp.has_extn("size") else []
    if utf8:
        if not smtp.has_extn("smtputf8"):
            raise PermanentError("smtp_refused", "the mail server takes only addresses in ASCII")
        options += ["SMTPUTF8", "BODY=8BITMIME"]
    code, text = smtp.mail(sender_address(server), options)
    if not is_positive(code):
        raise smtplib.SMTPResponseException(code, text)


def _needs_utf8(content: bytes, recipients: list[str]) -> bool:
    return not content.isascii() or not all(address.isascii() for address in recipients)


def _offer_all(
    smtp: smtplib.SMTP, recipients: list[str], server: MailServer, on_offered: Callable[[int], None]
) -> dict[str, Refusal]:
    """Those the server does not take, by address."""
    refused = {}
    for number, address in enumerate(recipients, start=1):
        with translated(server):
            refusal = _offer(smtp, address, server)
        if refusal is not None:
            refused[address] = refusal
        on_offered(number)
    return refused


def _offer(smtp: smtplib.SMTP, address: str, server: MailServer) -> Refusal | None:
    """After 421 the server hangs up (RFC 5321 3.8), so that answer is everybody's, not this recipient's."""
    code, text = smtp.rcpt(address)
    if code == 421:
        raise smtplib.SMTPResponseException(code, text)
    return None if is_positive(code) else Refusal(address, code, readable(text, server))


def _send_content(smtp: smtplib.SMTP, content: bytes) -> tuple[int, bytes]:
    try:
        return smtp.data(content)
    except smtplib.SMTPDataError as error:  # refused before a byte of it was sent
        return error.smtp_code, as_bytes(error.smtp_error)
