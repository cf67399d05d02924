"""Every transition of a record, on a real Redis: atomic, in order, never backwards."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from taskservice.errors import Unavailable
from taskservice.local.ports import choose_port
from taskservice.local.system import LocalSystem
from taskservice.model import ErrorInfo, Priority, Progress, Status, Submission, now
from taskservice.records import MAX_DELIVERIES, Claim, Records

BUSY = ErrorInfo("smtp_unavailable", "busy", retryable=True)


@pytest.fixture
def records(stores: LocalSystem) -> Records:
    return Records.connect(stores.result_backend, retention_s=60)


@pytest.fixture
def submission() -> Submission:
    moment = now()
    return Submission(str(uuid.uuid4()), "data_processing", Priority.LOW, {"data": "ü"}, moment, moment, 3)


def claim(records: Records, submission: Submission, attempt: int = 1, *, redelivered: bool = False) -> Claim:
    """As a worker does for each message it gets."""
    delivery = uuid.uuid4().hex
    return records.claim(submission, attempt=attempt, worker="low@test", delivery=delivery, redelivered=redelivered)


def status(records: Records, submission: Submission) -> Status | None:
    record = records.get(submission.task_id)
    return record.status if record else None


def test_an_unknown_id_has_no_record(records: Records) -> None:
    assert records.get("unknown") is None


def test_an_accepted_task_reads_as_it_was_submitted(records: Records, submission: Submission) -> None:
    records.accept(submission)

    record = records.get(submission.task_id)

    assert record is not None
    assert record.submission.to_message() == submission.to_message()
    assert (record.status, record.attempt) == (Status.QUEUED, 0)


def test_a_worker_that_is_faster_than_the_web_creates_the_record(records: Records, submission: Submission) -> None:
    granted = claim(records, submission)
    records.accept(submission)

    assert granted is Claim.GRANTED
    assert status(records, submission) is Status.RUNNING


def test_a_refused_task_is_unreadable_and_never_runs(records: Records, submission: Submission) -> None:
    was_refused = records.refuse(submission.task_id)

    assert was_refused
    assert claim(records, submission) is Claim.STALE
    assert records.get(submission.task_id) is None


def test_a_claimed_task_cannot_be_refused(records: Records, submission: Submission) -> None:
    claim(records, submission)

    assert not records.refuse(submission.task_id)


@pytest.mark.parametrize("attempt", [2, 3])
def test_only_the_next_attempt_may_start(records: Records, submission: Submission, attempt: int) -> None:
    records.accept(submission)

    assert claim(records, submission, attempt) is Claim.STALE


def test_a_retry_starts_the_next_attempt_and_ends_the_last(records: Records, submission: Submission) -> None:
    claim(records, submission)
    records.retry(submission.task_id, attempt=1, error=BUSY, delay_s=4)
    while_waiting = records.get(submission.task_id)
    old_copy = claim(records, submission)
    next_claim = claim(records, submission, 2)

    assert while_waiting is not None
    assert (while_waiting.status, while_waiting.error) == (Status.RETRYING, BUSY)
    assert while_waiting.due_at > while_waiting.attempts[0].started_at
    assert (old_copy, next_claim) == (Claim.STALE, Claim.GRANTED)


FINISH: dict[str, Callable[[Records, str], None]] = {
    "succeeded": lambda records, task_id: records.succeed(task_id, attempt=1, result={"words": 2}),
    "failed": lambda records, task_id: records.fail(task_id, attempt=1, error=BUSY),
}


@pytest.mark.parametrize("final", FINISH)
def test_a_final_status_stays(records: Records, submission: Submission, final: str) -> None:
    claim(records, submission)
    FINISH[final](records, submission.task_id)
    for change in FINISH.values():
        change(records, submission.task_id)
    records.retry(submission.task_id, attempt=1, error=BUSY, delay_s=1)

    assert status(records, submission) == final
    assert claim(records, submission, 2) is Claim.STALE


def test_a_redelivered_attempt_runs_again_and_three_losses_fail_the_task(
    records: Records, submission: Submission
) -> None:
    claims = [claim(records, submission, redelivered=turn > 0) for turn in range(MAX_DELIVERIES + 1)]

    record = records.get(submission.task_id)

    assert claims == [Claim.GRANTED] * MAX_DELIVERIES + [Claim.LOST_TOO_OFTEN]
    assert record is not None
    assert record.error is not None
    assert (record.status, record.error.code) == (Status.FAILED, "worker_lost")
    assert len(record.attempts) == MAX_DELIVERIES


def test_a_second_copy_of_a_running_attempt_is_dropped(records: Records, submission: Submission) -> None:
    first, copy = claim(records, submission), claim(records, submission)

    assert (first, copy) == (Claim.GRANTED, Claim.STALE)


def test_a_claim_that_is_asked_twice_is_one_attempt(records: Records, submission: Submission) -> None:
    answers = [records.claim(submission, attempt=1, worker="w", delivery="same") for _ in range(2)]

    record = records.get(submission.task_id)

    assert answers == [Claim.GRANTED] * 2
    assert record is not None
    assert len(record.attempts) == 1


def test_what_a_worker_hands_back_is_no_lost_delivery(records: Records, submission: Submission) -> None:
    claims = [claim(records, submission)]
    for _ in range(MAX_DELIVERIES + 1):
        records.hand_back(submission.task_id, attempt=1)
        claims.append(claim(records, submission, redelivered=True))

    assert claims == [Claim.GRANTED] * (MAX_DELIVERIES + 2)


def test_progress_is_of_the_running_attempt_only(records: Records, submission: Submission) -> None:
    claim(records, submission)
    records.report_progress(submission.task_id, attempt=1, progress=Progress(1, 2, "rows"))
    records.report_progress(submission.task_id, attempt=2, progress=Progress(9, 9, "other"))

    record = records.get(submission.task_id)

    assert record is not None
    assert record.progress == Progress(1, 2, "rows")


def test_a_mark_outlives_its_attempt(records: Records, submission: Submission) -> None:
    claim(records, submission)
    records.set_mark(submission.task_id, "sent", ["ada@example.com"])
    records.retry(submission.task_id, attempt=1, error=BUSY, delay_s=1)

    assert records.mark(submission.task_id, "sent") == ["ada@example.com"]
    assert records.mark(submission.task_id, "other") is None


def test_a_store_that_is_down_is_unavailable() -> None:
    records = Records.connect(f"redis://127.0.0.1:{choose_port()}/0", retention_s=60)

    with pytest.raises(Unavailable) as caught:
        records.get("any")

    assert caught.value.missing == "store"
