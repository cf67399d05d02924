"""A session with the mail server, encrypted and logged in as the deployment says.

Must not know what is sent in it.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from taskservice.context import MailServer
from taskservice.errors import PermanentError, TransientError
from taskservice.handlers.email_sending.addresses import sender_domain
from taskservice.handlers.email_sending.replies import translated


@contextmanager
def connected(server: MailServer) -> Iterator[smtplib.SMTP]:
    """A session that is encrypted and logged in as configured. How it ends never matters: the answer to DATA counts."""
    with translated(server):
        smtp = _connect(server)
    try:
        with translated(server):
            _secure_and_log_in(smtp, server)
        yield smtp
        with suppress(smtplib.SMTPException, OSError):
            smtp.quit()
    finally:
        smtp.close()


def _connect(server: MailServer) -> smtplib.SMTP:
    # Without a name of ours, smtplib asks the DNS for one, without a time-out.
    name = sender_domain(server)
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
