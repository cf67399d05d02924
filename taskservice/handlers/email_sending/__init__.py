"""Task type `email_sending`: one e-mail over SMTP; a retry goes only to recipients whose answer is still open.

Must not know of queues, Redis or HTTP: what happened before is in the context's sent mark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from taskservice.context import TaskContext
from taskservice.handlers import task_type
from taskservice.handlers.email_sending.delivery import Delivery, raise_unless_settled
from taskservice.handlers.email_sending.message import MAX_ATTACHMENT_BYTES, compose, message_id
from taskservice.handlers.email_sending.parameters import EmailParameters
from taskservice.handlers.email_sending.session import connected
from taskservice.handlers.email_sending.transaction import transmit

__all__ = ["MAX_ATTACHMENT_BYTES", "EmailParameters", "send_email"]

_MARK = "email"


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
    and then with the same Message-ID. For the same reason no progress is told after it: a cancelled task must not have
    sent anything.
    """
    delivery = Delivery.from_mark(ctx.sent_mark(_MARK))
    waiting = delivery.waiting(parameters.recipients)
    if waiting:
        delivery = _deliver(parameters, waiting, delivery, ctx)
    raise_unless_settled(delivery)
    return {
        "message_id": message_id(ctx),
        "accepted": [address for address in parameters.recipients if address in delivery.accepted],
        "refused": [asdict(refusal) for refusal in delivery.refused],
    }


def _deliver(parameters: EmailParameters, waiting: list[str], earlier: Delivery, ctx: TaskContext) -> Delivery:
    message = compose(parameters, ctx)
    on_offered = _reporter(ctx, settled=len(parameters.recipients) - len(waiting), total=len(parameters.recipients))
    with connected(ctx.mail_server) as smtp:
        latest = transmit(smtp, message, waiting, server=ctx.mail_server, on_offered=on_offered)
        delivery = earlier.plus(latest)
        if latest.accepted:
            ctx.set_sent_mark(_MARK, delivery.to_mark())
    return delivery


def _reporter(ctx: TaskContext, *, settled: int, total: int) -> Callable[[int], None]:
    return lambda offered: ctx.progress(settled + offered, total, "recipients")
