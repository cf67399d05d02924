"""A TaskContext without marks, secrets and receivers, for tests of handlers that must not ask for them."""

from __future__ import annotations

from typing import Any

from taskservice.context import MailServer, Receivers


class PlainContext:
    """Who derives from it adds the files and listens to the progress."""

    task_id = "a-task"
    attempt = 1
    mail_server = MailServer("localhost", 25, "tasks@localhost")
    allows_private_webhooks = False

    def sent_mark(self, key: str) -> Any | None:
        return None

    def set_sent_mark(self, key: str, value: Any) -> None:
        raise NotImplementedError

    def webhook_secrets(self, key_id: str | None) -> tuple[str, ...]:
        raise NotImplementedError

    @property
    def receivers(self) -> Receivers:
        raise NotImplementedError
