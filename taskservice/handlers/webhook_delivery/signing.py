"""The headers that let a receiver trust a webhook: Standard Webhooks 1.0, symmetric signatures.

Must not know where it is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from standardwebhooks import Webhook


def signed_headers(webhook_id: str, body: str, *, at: datetime, secrets: Sequence[str]) -> dict[str, str]:
    """`at` is the attempt's time, not the event's. One signature per secret, so that a receiver may rotate later."""
    signatures = [Webhook(secret).sign(msg_id=webhook_id, timestamp=at, data=body) for secret in secrets]
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
