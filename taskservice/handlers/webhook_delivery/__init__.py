"""Task type `webhook_delivery`: one signed POST to the URL that a client gave with its task.

Must not know of queues, Redis or which task it tells of: the body was written when that task changed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from taskservice import __version__
from taskservice.context import WEBHOOK_ANSWERS, TaskContext
from taskservice.errors import PermanentError, TransientError
from taskservice.handlers import task_type
from taskservice.handlers.webhook_delivery.addresses import ForbiddenTarget, Target, parse_target
from taskservice.handlers.webhook_delivery.connection import Sender, Unreachable
from taskservice.handlers.webhook_delivery.parameters import (
    LONGEST_RETRY_DELAY_S,
    MAX_ATTEMPTS,
    TASK_TYPE,
    DeliveryParameters,
)
from taskservice.handlers.webhook_delivery.signing import signed_headers
from taskservice.model import now

__all__ = ["deliver", "deliver_webhook"]

GONE = 410  # the receiver's wish to be told no more


@task_type(
    TASK_TYPE,
    parameters=DeliveryParameters,
    max_retries=MAX_ATTEMPTS - 1,
    max_retry_delay_s=LONGEST_RETRY_DELAY_S,
    time_limit_s=60,  # the request takes 15 s at most; waits for the store count too
    is_internal=True,
)
def deliver_webhook(parameters: DeliveryParameters, ctx: TaskContext) -> Mapping[str, Any]:
    """Deliver a signed webhook; any 2xx answer is success. Result: `{status_code}`."""
    return deliver(parameters, ctx, Sender(allow_private=ctx.allows_private_webhooks))


def deliver(parameters: DeliveryParameters, ctx: TaskContext, sender: Sender) -> Mapping[str, Any]:
    """One attempt. Every answer is noted for the delivery log.

    Raises:
        PermanentError: webhook_forbidden (not a public https target, or nothing to sign with), webhook_rejected
            (410, or a redirect).
        TransientError: webhook_rejected (any other answer), webhook_unreachable (no answer), webhook_held_back (not
            sent: the host was slow lately, and others wait for this worker too).
    """
    try:
        target = parse_target(parameters.url, allow_private=sender.allow_private)
        headers = _headers(parameters, ctx)
        if not ctx.receivers.may_ask(target.host):
            raise TransientError("webhook_held_back", "not sent: the receiver's host was too slow lately")
        status_code = _post(sender, target, parameters.body, headers, ctx)
    except ForbiddenTarget as error:
        raise PermanentError("webhook_forbidden", f"the callback's URL is refused: {error}") from error
    except Unreachable as error:
        raise TransientError("webhook_unreachable", str(error)) from error
    if not 200 <= status_code < 300:
        _note(status_code, ctx)
        raise _rejection(status_code)
    return {"status_code": status_code}


def _post(sender: Sender, target: Target, body: str, headers: Mapping[str, str], ctx: TaskContext) -> int:
    began, has_answered = time.monotonic(), False
    try:
        status_code = sender.post(target, body, headers)
        has_answered = True
    finally:
        ctx.receivers.note(target.host, took_s=time.monotonic() - began, has_answered=has_answered)
    return status_code


def _headers(parameters: DeliveryParameters, ctx: TaskContext) -> dict[str, str]:
    secrets = ctx.webhook_secrets(parameters.key_id)
    if not secrets:
        raise PermanentError("webhook_forbidden", "the API key it would be signed for has no secret any more")
    return {
        "User-Agent": f"taskservice-webhooks/{__version__}",
        "Content-Type": "application/json",
        "Connection": "close",
        **signed_headers(parameters.webhook_id, parameters.body, at=now(), secrets=secrets),
    }


def _note(status_code: int, ctx: TaskContext) -> None:
    """By attempt: a success is in the result, and an attempt without an answer has only its error."""
    noted = ctx.sent_mark(WEBHOOK_ANSWERS) or {}
    ctx.set_sent_mark(WEBHOOK_ANSWERS, {**noted, str(ctx.attempt): status_code})


def _rejection(status_code: int) -> Exception:
    if status_code == GONE:
        return PermanentError("webhook_rejected", "the receiver answered 410: it is gone for good")
    if 300 <= status_code < 400:
        return PermanentError(
            "webhook_rejected", f"the receiver answered {status_code}: redirects are refused, give the final URL"
        )
    return TransientError("webhook_rejected", f"the receiver answered {status_code}")
