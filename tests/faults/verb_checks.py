"""What the verbs are judged by: cancel, retry, run now, batches, expiry, rates, pauses, and that all views agree.

Pure functions of the evidence, as in checks.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime

from tests.faults.checks import Evidence, Rule, flaw_of, timeline
from tests.faults.ledger import FINAL, Call, Execution, Outcome, Submitted, Verb

START_SLACK_S = 2.0  # from the claim to the first line of the handler, on a busy machine
CLOCK_SLACK_S = 0.1  # instants are told in whole milliseconds, by two clocks of one machine
RUN_NOW_WITHIN_S = 30.0  # a fault included
RATE_PER_S = 5  # of the type rated_sleep: see target.py
_CANCELS = (Verb.CANCEL, Verb.BULK_CANCEL)


def every_verb_is_answered_in_time_and_says_why(evidence: Evidence) -> Iterator[str]:
    for call in evidence.calls:
        flaw = flaw_of(call.answer, loses_connections=evidence.loses_connections)
        if not flaw and any(_is_unexpected(one) for one in call.names):
            flaw = "says of a task what nobody may say of it"
        if flaw:
            yield f"{flaw}: {call.answer}\n  {dict(call.answer.document)}"


def a_cancel_keeps_its_word(evidence: Evidence) -> Iterator[str]:
    """Cancelled: ends so and no code of it starts any more. Asked to stop: what runs may end, nothing else starts."""
    for call in evidence.calls:
        for one in _cancelled(call):
            runs = evidence.executions_of(one)
            answered_at = call.answer.answered_at
            may_have_run = call.answer.status_code == 202 or call.verb is Verb.BULK_CANCEL
            ran_before = may_have_run and any(run.started_at <= answered_at + START_SLACK_S for run in runs)
            if not ran_before and one.status != "cancelled":
                yield f"cancelled, and ends {one.status}\n{timeline(one, evidence)}"
            if _starts_after(runs, answered_at + (START_SLACK_S if may_have_run else 0)):
                yield f"started after its cancel was answered\n{timeline(one, evidence)}"


def run_now_is_now(evidence: Evidence) -> Iterator[str]:
    """Judged where it was due so much later that only the request can have started it, with no fault in between."""
    faults = [*evidence.recoveries, *(kill.at for kill in evidence.kills)]
    for call in evidence.calls:
        if call.verb is not Verb.RUN or call.answer.outcome is not Outcome.ACCEPTED:
            continue
        (one,) = call.names
        due_at = _due_at(one)
        asked_at = call.answer.asked_at
        is_disturbed = any(asked_at - RUN_NOW_WITHIN_S < at < due_at for at in faults)
        if is_disturbed or due_at - call.answer.answered_at < RUN_NOW_WITHIN_S:
            continue
        runs = evidence.executions_of(one)
        if not runs or runs[0].started_at >= due_at:
            yield f"was to run now, was due {due_at:.3f}\n{timeline(one, evidence)}"


def what_expires_never_ran_and_the_rest_was_in_time(evidence: Evidence) -> Iterator[str]:
    """By the start that the record tells: the first, for a lost worker's attempt comes again however late."""
    for one in evidence.accepted:
        if "expires_in" not in one.body:
            continue
        if one.status == "expired" and evidence.executions_of(one):
            yield f"expired, and ran\n{timeline(one, evidence)}"
        started_at = _first_start(one)
        deadline = _due_at(one) + float(one.body["expires_in"])
        if started_at and started_at > deadline + CLOCK_SLACK_S:
            yield f"started {started_at:.3f}, had to before {deadline:.3f}\n{timeline(one, evidence)}"


def a_pause_holds(evidence: Evidence) -> Iterator[str]:
    """From its answer to the request that ends it nothing of the queue starts."""
    for queue, since, until in pauses(evidence.calls):
        for one in evidence.submitted:
            is_held = f"{one.body.get('priority', 'normal')}_priority" == queue
            if not is_held:
                continue
            for run in evidence.executions_of(one):
                if since + START_SLACK_S < run.started_at < until:
                    yield f"{queue} was paused from {since:.3f} to {until:.3f}\n{timeline(one, evidence)}"


def a_rate_holds(evidence: Evidence) -> Iterator[str]:
    """No second of any position has more starts than the rate's count, and nothing starts before its slot."""
    rated = [one for one in evidence.accepted if one.body["task_type"] == "rated_sleep" and _first_start(one)]
    starts = sorted(start for one in rated for start in _starts(one))
    for first, next_over in zip(starts, starts[RATE_PER_S:], strict=False):
        if next_over < first + 1:
            yield f"more than {RATE_PER_S} starts in the second from {first:.3f}"
    for one in rated:
        if _first_start(one) < _slot(one) - CLOCK_SLACK_S:
            yield f"started before its slot, {_slot(one):.3f}\n{timeline(one, evidence)}"


def a_rate_fails_no_attempt(evidence: Evidence) -> Iterator[str]:
    for one in evidence.accepted:
        errors = {(attempt.get("error") or {}).get("code") for attempt in one.task.get("attempts", ())}
        if one.body["task_type"] == "rated_sleep" and errors - {None, "worker_lost"}:
            yield timeline(one, evidence)


def lists_agree_with_tasks(evidence: Evidence) -> Iterator[str]:
    if evidence.survey is None:
        return
    listed = evidence.survey.listed
    for one in evidence.accepted:
        if listed.get(str(one.task_id)) != one.status:
            yield f"is listed as {listed.get(str(one.task_id))}\n{timeline(one, evidence)}"
    for task_id, status in listed.items():
        if status not in FINAL:
            yield f"{task_id} is left {status}"


def counts_agree_with_lists(evidence: Evidence) -> Iterator[str]:
    if evidence.survey is None:
        return
    counted, listed = evidence.survey.totals
    if counted != listed:
        yield f"the statistics count {dict(counted)}, the list has {dict(listed)}"
    for batch, counts in evidence.survey.batches:
        statuses = Counter(one.status for one in batch.members if one.outcome is Outcome.ACCEPTED)
        if {status: count for status, count in counts.items() if count} != statuses:
            yield f"batch {batch.batch_id} counts {dict(counts)}, its tasks are {dict(statuses)}"


def queues_are_empty_at_the_end(evidence: Evidence) -> Iterator[str]:
    for queue in evidence.survey.queues if evidence.survey else ():
        if queue["depth"] or queue["unacknowledged"] or queue["paused"]:
            yield str(queue)


VERB_RULES: tuple[Rule, ...] = (
    every_verb_is_answered_in_time_and_says_why, a_cancel_keeps_its_word, run_now_is_now,
    what_expires_never_ran_and_the_rest_was_in_time, a_pause_holds, a_rate_holds, a_rate_fails_no_attempt,
    lists_agree_with_tasks, counts_agree_with_lists, queues_are_empty_at_the_end,
)  # fmt: skip


def pauses(calls: Sequence[Call]) -> list[tuple[str, float, float]]:
    """Queue, since when it was surely paused, and until when; a pause that was never ended lasts."""
    found: list[tuple[str, float, float]] = []
    paused: dict[str, float] = {}
    for call in sorted(calls, key=lambda one: one.answer.asked_at):
        if call.verb is Verb.PAUSE and call.answer.outcome is Outcome.ACCEPTED:
            paused.setdefault(call.queue, call.answer.answered_at)
        elif call.verb is Verb.RESUME and call.queue in paused:
            found.append((call.queue, paused.pop(call.queue), call.answer.asked_at))
    return found + [(queue, since, float("inf")) for queue, since in paused.items()]


def _is_unexpected(one: Submitted) -> bool:
    return any(answer.outcome is Outcome.UNEXPECTED for answer in one.answers)


def _cancelled(call: Call) -> list[Submitted]:
    """What the answer says is cancelled or asked to stop."""
    if call.verb not in _CANCELS or call.answer.outcome is not Outcome.ACCEPTED:
        return []
    if call.verb is Verb.CANCEL:
        return list(call.names)
    return [one for one in call.names if one.task_id in call.answer.document["succeeded"]]


def _starts_after(runs: Sequence[Execution], moment: float) -> bool:
    return any(run.started_at > moment for run in runs)


def _due_at(one: Submitted) -> float:
    """As it was accepted; a batch does not tell, so there from its record."""
    told = next((a.document["due_at"] for a in one.answers if "due_at" in a.document), one.task.get("due_at"))
    return datetime.fromisoformat(str(told)).timestamp()


def _starts(one: Submitted) -> list[float]:
    """By the record, of each attempt, also of one that came again."""
    return [datetime.fromisoformat(attempt["started_at"]).timestamp() for attempt in one.task.get("attempts") or ()]


def _first_start(one: Submitted) -> float:
    """0.0 for a task that never started."""
    return min(_starts(one), default=0.0)


def _slot(one: Submitted) -> float:
    """The start that its type's rate allows: told as the moment it is due when it was put off, else when it started."""
    created_at, due_at = (datetime.fromisoformat(one.task[name]).timestamp() for name in ("created_at", "due_at"))
    return due_at if due_at > created_at else _first_start(one)
