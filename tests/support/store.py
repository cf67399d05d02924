"""One emptied Redis as web and worker see it, and shorthands for what they do with it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Self

import redis

from taskservice.model import ErrorInfo, Priority, Record, Status, Submission, now
from taskservice.records import Attempts, Claim, ClaimAnswer, Records, Run, TaskIndex
from taskservice.records.events import BEGINNING, EventStream

BUSY = ErrorInfo("smtp_unavailable", "busy", retryable=True)


@dataclass
class Store:
    """Its records and their index, and what a worker does to them."""

    client: redis.Redis
    retention_s: int = 60

    def __post_init__(self) -> None:
        self.records = Records(self.client, retention_s=self.retention_s)
        self.attempts = Attempts(self.client, retention_s=self.retention_s)
        self.index = TaskIndex(self.client)

    @classmethod
    def emptied(cls, url: str) -> Self:
        client = Records.connect(url, retention_s=60).client
        client.flushdb()
        return cls(client)

    def accept(self, **changes: Any) -> Submission:
        submission = submitted(**changes)
        self.records.accept(submission)
        return submission

    def claim(self, submission: Submission, attempt: int = 1, *, delivery: str = "", **options: Any) -> ClaimAnswer:
        """As a worker does for each message it gets."""
        return self.attempts.claim(
            submission, attempt=attempt, worker="low@test", delivery=delivery or uuid.uuid4().hex, **options
        )

    def start(self, submission: Submission, attempt: int = 1) -> Run:
        """A granted claim."""
        run = Run(submission.task_id, uuid.uuid4().hex)
        assert self.claim(submission, attempt, delivery=run.delivery).claim is Claim.GRANTED
        return run

    def succeed(self, submission: Submission, run: Run, run_of: int = 1) -> None:
        self.attempts.succeed(submission, delivery=run.delivery, attempt=run_of, result={"words": 2})

    def fail(self, submission: Submission, run: Run) -> None:
        self.attempts.fail(submission, delivery=run.delivery, attempt=1, error=BUSY)

    def retry(self, submission: Submission, run: Run, *, delay_s: float = 1) -> None:
        self.attempts.retry(submission, delivery=run.delivery, attempt=1, error=BUSY, delay_s=delay_s)

    def read(self, submission: Submission) -> Record:
        record = self.records.get(submission.task_id)
        assert record is not None
        return record

    def status(self, submission: Submission) -> Status:
        return self.read(submission).status

    def events(self, submission: Submission) -> list[str]:
        """Names of this task's changes, in order."""
        stream = EventStream(self.records.client)
        pages = stream.between(BEGINNING, stream.bounds()[1])
        return [event.name for page in pages for event in page if event.task_id == submission.task_id]

    @contextmanager
    def forgetting(self) -> Iterator[None]:
        """What Redis is told in the block it has forgotten afterwards, as by a power loss between two fsyncs."""
        options = self.client.connection_pool.connection_kwargs | {"decode_responses": False}
        with redis.Redis(connection_pool=redis.ConnectionPool(**options)) as client:
            kept = {key: (max(0, client.pttl(key)), client.dump(key)) for key in client.scan_iter()}
            yield
            client.flushdb()
            for key, (ttl_ms, value) in kept.items():
                client.restore(key, ttl_ms, value)


def submitted(**changes: Any) -> Submission:
    moment = now()
    plain = Submission(str(uuid.uuid4()), "data_processing", Priority.LOW, {"data": "ü"}, moment, moment, 3)
    return replace(plain, **changes)


def in_seconds(seconds: float) -> dict[str, Any]:
    """Members of a task created now that is due so much later."""
    moment = now()
    return {"created_at": moment, "due_at": moment + timedelta(seconds=seconds)}
