"""What a webhook says: the task as it was at its event, small, and signed so that the standard's library trusts it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from taskservice.handlers.webhook_delivery.body import MAX_BODY_BYTES, webhook_body
from taskservice.handlers.webhook_delivery.signing import signed_headers
from taskservice.keys import make_webhook_secret
from taskservice.model import Attempt, ErrorInfo, Priority, Record, Status, Submission, now

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
BUSY = ErrorInfo("smtp_unavailable", "busy", retryable=True)
TASK_ID = "3f0c2c1e-0000-4000-8000-000000000001"
ATTEMPTS = (
    Attempt(1, "high@a", NOON + timedelta(seconds=1), NOON + timedelta(seconds=2), BUSY),
    Attempt(2, "high@b", NOON + timedelta(seconds=3), NOON + timedelta(seconds=4)),
)


def record(status: Status = Status.SUCCEEDED, **changes: Any) -> Record:
    submission = Submission(
        TASK_ID,
        "email_sending",
        Priority.HIGH,
        {"to": "ada@example.com"},
        NOON,
        NOON,
        3,
        tags=("a",),
        metadata={"k": 1},
    )
    plain = Record(submission, status, NOON, ATTEMPTS, result={"words": 2}, finished_at=NOON + timedelta(seconds=4))
    return replace(plain, **changes)


def test_a_success_says_everything_of_the_task_but_its_parameters() -> None:
    body = json.loads(webhook_body(record(), "succeeded", nth=0))

    assert body == {
        "type": "task.succeeded",
        "timestamp": "2026-01-31T12:00:04.000Z",
        "data": {
            "task_id": TASK_ID,
            "task_type": "email_sending",
            "priority": "high",
            "status": "succeeded",
            "state": "SUCCESS",
            "attempt": 2,
            "at": "2026-01-31T12:00:04.000Z",
            "tags": ["a"],
            "metadata": {"k": 1},
            "links": {"self": f"/api/tasks/{TASK_ID}"},
            "result": {"words": 2},
        },
    }


@pytest.mark.parametrize(
    ("event", "nth", "status", "attempt", "second"),
    [
        ("scheduled", 0, "scheduled", 0, 0),
        ("queued", 0, "queued", 0, 0),
        ("started", 0, "running", 1, 1),
        ("retrying", 0, "retrying", 1, 2),
        ("started", 1, "running", 2, 3),
        ("started", 5, "running", 2, 3),
    ],
)
def test_an_earlier_change_reads_as_it_was_although_the_task_has_moved_on(
    event: str, nth: int, status: str, attempt: int, second: int
) -> None:
    body = json.loads(webhook_body(record(), event, nth=nth))

    told = (body["data"]["status"], body["data"]["attempt"], body["timestamp"])
    assert told == (status, attempt, f"2026-01-31T12:00:0{second}.000Z")
    assert "result" not in body["data"]


def test_a_failure_says_why() -> None:
    failed = record(Status.FAILED, result=None, error=BUSY)

    data = json.loads(webhook_body(failed, "failed", nth=0))["data"]

    assert data["error"] == {"code": "smtp_unavailable", "message": "busy", "retryable": True}
    assert json.loads(webhook_body(failed, "retrying", nth=0))["data"]["error"] == data["error"]


def test_a_task_that_ends_unstarted_has_no_attempt() -> None:
    data = json.loads(webhook_body(record(Status.CANCELLED, attempts=()), "cancelled", nth=0))["data"]

    assert (data["status"], data["state"], data["attempt"]) == ("cancelled", "REVOKED", 0)


def test_a_result_that_is_too_large_is_left_out_and_named() -> None:
    body = webhook_body(record(result={"rows": ["ü" * 100] * 1000}), "succeeded", nth=0)

    assert len(body.encode()) < MAX_BODY_BYTES
    assert json.loads(body)["data"]["omitted"] == ["result"]
    assert "result" not in json.loads(body)["data"]


def test_the_largest_body_is_still_small() -> None:
    largest = record(Status.FAILED, error=ErrorInfo("internal", "\n" * 100_000, retryable=False))
    submission = replace(largest.submission, tags=("\n" * 64,) * 10, metadata={"k": "\n" * 2000})

    assert len(webhook_body(replace(largest, submission=submission), "failed", nth=0)) < MAX_BODY_BYTES


def test_every_secret_signs_and_no_other_is_trusted() -> None:
    new, old, other = (make_webhook_secret() for _ in range(3))
    body = webhook_body(record(), "succeeded", nth=0)

    headers = signed_headers("id-1", body, at=now(), secrets=(new, old))

    assert len(headers["webhook-signature"].split(" ")) == 2
    assert Webhook(new).verify(body, headers) == Webhook(old).verify(body, headers) == json.loads(body)
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(body, {**headers, "webhook-id": "id-2"})


def test_a_signature_of_another_time_is_not_trusted() -> None:
    secret = make_webhook_secret()

    headers = signed_headers("id-1", "{}", at=now() - timedelta(minutes=6), secrets=(secret,))

    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(secret).verify("{}", headers)
