"""A mail server that answers by recipient: `unknown…` is told 550, `busy…` is told 451, everybody else gets mail.

Must not know who sends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from taskservice.local.ports import choose_port


class MoodyMailServer:
    """Keeps nothing."""

    async def handle_RCPT(  # noqa: N802  aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("unknown"):
            return "550 no such mailbox"
        if address.startswith("busy"):
            return "451 mailbox is busy, try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"


@contextmanager
def moody_mail_server() -> Iterator[int]:
    """Its port, while the block runs."""
    port = choose_port()
    controller = Controller(MoodyMailServer(), hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()
