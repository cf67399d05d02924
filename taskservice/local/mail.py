"""A mail server that keeps everything and delivers nothing. `python -m taskservice.local.mail PORT` runs one.

Listens on 127.0.0.1 only; prints one line per message, never its content.
"""

from __future__ import annotations

import signal
import sys
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

_KEPT_MESSAGES = 1000


@dataclass(frozen=True, slots=True)
class ReceivedMail:
    """One accepted message with its envelope."""

    sender: str
    recipients: tuple[str, ...]
    message: EmailMessage


class MailSink:
    """Accepts mail on a port of its own thread; `messages` holds the latest thousand.

    `replies` are given, one for each message, before it accepts: "451 busy", "550 no such user".
    """

    def __init__(self, port: int, *, replies: Iterable[str] = ()) -> None:
        self.messages: deque[ReceivedMail] = deque(maxlen=_KEPT_MESSAGES)
        self.replies = deque(replies)
        self.port = port
        self._controller = Controller(self, hostname="127.0.0.1", port=port)

    def start(self) -> None:
        self._controller.start()

    def stop(self) -> None:
        self._controller.stop()

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        if self.replies:
            return self.replies.popleft()
        content = envelope.content if isinstance(envelope.content, bytes) else (envelope.content or "").encode()
        message = BytesParser(EmailMessage, policy=default).parsebytes(content)
        self.messages.append(ReceivedMail(envelope.mail_from or "", tuple(envelope.rcpt_tos), message))
        print(
            f"mail.received to={','.join(envelope.rcpt_tos)} size_bytes={len(content)} subject={message['subject']!r}",
            flush=True,
        )
        return "250 OK"


def main() -> None:
    stop_signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)
    sink = MailSink(int(sys.argv[1]))
    sink.start()
    signal.sigwait(stop_signals)
    sink.stop()


if __name__ == "__main__":
    main()
