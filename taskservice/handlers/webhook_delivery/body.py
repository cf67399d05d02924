"""What a webhook says of a task: the body of Standard Webhooks, small enough to be welcome.

Must not know who receives it, nor how.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from taskservice.model import Attempt, ErrorInfo, Record, Status

MAX_BODY_BYTES = 20_000  # Standard Webhooks: "usually smaller than 20kb"
MAX_ERROR_LENGTH = 2000


def webhook_body(record: Record, event: str, *, nth: int) -> str:
    """The body, as the task was at its `nth` (from 0) event of that name, in ASCII.

    `{type, timestamp, data: {task_id, task_type, priority, status, state, attempt, at, tags, metadata, links, result or
    error}}`. A result that makes it too large is left out, and `data.omitted` names it; the task's own link has it.
    """
    document = _document(record, event, nth)
    text = _compact(document)
    if len(text) > MAX_BODY_BYTES and "result" in document["data"]:
        del document["data"]["result"]
        document["data"]["omitted"] = ["result"]
        text = _compact(document)
    return text


def _document(record: Record, event: str, nth: int) -> dict[str, Any]:
    status = Status.RUNNING if event == "started" else Status(event)
    attempt = _attempt_at(record, status, nth)
    at = _instant(_moment(record, status, attempt))
    submission = record.submission
    data = {
        "task_id": submission.task_id,
        "task_type": submission.task_type,
        "priority": submission.priority.value,
        "status": status.value,
        "state": status.state,
        "attempt": attempt.number if attempt else 0,
        "at": at,
        "tags": list(submission.tags),
        "metadata": dict(submission.metadata),
        "links": {"self": f"/api/tasks/{submission.task_id}"},
        **_outcome(record, status, attempt),
    }
    return {"type": f"task.{event}", "timestamp": at, "data": data}


def _attempt_at(record: Record, status: Status, nth: int) -> Attempt | None:
    """The record may have moved on since. Every attempt starts once, and all but the last are retried once."""
    if status in (Status.SCHEDULED, Status.QUEUED) or not record.attempts:
        return None
    if status.is_final:
        return record.attempts[-1]
    return record.attempts[min(nth, len(record.attempts) - 1)]


def _moment(record: Record, status: Status, attempt: Attempt | None) -> datetime:
    submission = record.submission
    if status.is_final and record.finished_at:
        return record.finished_at
    if attempt is None:
        return submission.due_at if status is Status.QUEUED else submission.created_at
    return attempt.finished_at or attempt.started_at if status is Status.RETRYING else attempt.started_at


def _outcome(record: Record, status: Status, attempt: Attempt | None) -> dict[str, Any]:
    if status is Status.SUCCEEDED:
        return {"result": record.result}
    if status is Status.FAILED:
        return {"error": _error(record.error)}
    if status is Status.RETRYING:
        return {"error": _error(attempt.error if attempt else None)}
    return {}


def _error(error: ErrorInfo | None) -> dict[str, Any] | None:
    if error is None:
        return None
    return {"code": error.code, "message": error.message[:MAX_ERROR_LENGTH], "retryable": error.retryable}


def _compact(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))


def _instant(moment: datetime) -> str:
    """As the HTTP API writes instants."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
