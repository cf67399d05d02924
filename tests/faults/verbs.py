"""What a client can do besides submitting one task. Each request and its answer is kept; nothing is judged.

Knows the contract's addresses and shapes; must not know when or why a verb is used.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.faults.client import REPEAT_AFTER_S, SETTLE_WITHIN_S, Client
from tests.faults.ledger import Answer, Batch, Call, Outcome, Submitted, Verb


@dataclass
class Journal:
    """What all clients of one scenario asked for, besides single submissions."""

    calls: list[Call] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)


@dataclass(frozen=True)
class Verbs:
    """One client's."""

    client: Client
    journal: Journal

    def cancel(self, one: Submitted) -> Answer:
        one.final_statuses |= {"cancelled"}
        return self._call(Verb.CANCEL, "DELETE", f"/api/tasks/{one.task_id}", names=(one,))

    def run_now(self, one: Submitted, *, key: str | None = None) -> Answer:
        return self._call(Verb.RUN, "POST", f"/api/tasks/{one.task_id}/run", names=(one,), key=key)

    def retry(self, first: Submitted, again: Submitted) -> Answer:
        """`again`, a task of its own, gets the answer; it carries its key."""
        path, body = f"/api/tasks/{first.task_id}/retry", {"parameters": again.body["parameters"]}
        answer = self._call(Verb.RETRY, "POST", path, names=(again,), body=body, key=again.key)
        again.answers.append(answer)
        return answer

    def submit(self, batch: Batch) -> Answer:
        """Each member gets its own part of the answer."""
        if not batch.answers:
            self.journal.batches.append(batch)
        body = {"tasks": [dict(one.body) for one in batch.members]}
        names = tuple(batch.members)
        answer = self._call(Verb.BATCH, "POST", "/api/tasks/batch", names=names, body=body, key=batch.key)
        batch.answers.append(answer)
        results = {result["index"]: result for result in answer.document.get("results", ())}
        for index, one in enumerate(batch.members):
            one.answers.append(_part(answer, results.get(index)))
        return answer

    def cancel_many(self, some: Sequence[Submitted]) -> Answer:
        for one in some:
            one.final_statuses |= {"cancelled"}
        body = {"action": "cancel", "task_ids": [one.task_id for one in some]}
        return self._call(Verb.BULK_CANCEL, "POST", "/api/tasks/bulk", names=tuple(some), body=body)

    def retry_many(self, firsts: Sequence[Submitted], again: Sequence[Submitted]) -> Answer:
        """`again` are the new tasks, in the order of `firsts`; they have one key."""
        body = {"action": "retry", "task_ids": [one.task_id for one in firsts]}
        key = again[0].key
        answer = self._call(Verb.BULK_RETRY, "POST", "/api/tasks/bulk", names=tuple(again), body=body, key=key)
        for first, one in zip(firsts, again, strict=True):
            one.answers.append(_repetition(answer, str(first.task_id)))
        return answer

    def pause(self, queue: str) -> Answer:
        return self._call(Verb.PAUSE, "PUT", f"/api/queues/{queue}/pause", queue=queue)

    def resume(self, queue: str) -> Answer:
        return self._call(Verb.RESUME, "PUT", f"/api/queues/{queue}/resume", queue=queue)

    def _call(
        self,
        verb: Verb,
        method: str,
        path: str,
        *,
        names: tuple[Submitted, ...] = (),
        queue: str = "",
        body: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> Answer:
        answer = self.client.ask(verb, method, path, body=body, key=key)
        self.journal.calls.append(Call(answer, names, queue))
        return answer


def insist(ask: Callable[[], Answer], *, until: Callable[[Answer], bool] | None = None) -> Answer:
    """Repeat a request until its outcome is settled and what `until` says holds; at most a minute."""
    deadline = time.monotonic() + SETTLE_WITHIN_S
    while True:
        answer = ask()
        is_done = answer.outcome.is_settled and (until is None or until(answer))
        if is_done or time.monotonic() > deadline:
            return answer
        time.sleep(REPEAT_AFTER_S)


def copies(firsts: Sequence[Submitted]) -> list[Submitted]:
    """What a bulk retry makes of them: the same parameters, so the same marks; one key for all."""
    key = uuid.uuid4().hex
    return [Submitted(one.body, key, one.final_statuses, mark=one.mark) for one in firsts]


def _part(answer: Answer, result: Mapping[str, Any] | None) -> Answer:
    """What a batch's answer says of one member; without results it says the same of all."""
    if result is None:
        return answer
    if "task_id" in result:
        return replace(answer, outcome=Outcome.ACCEPTED, document=result)
    return replace(answer, outcome=Outcome(result.get("outcome") or Outcome.REFUSED), document=result)


def _repetition(answer: Answer, first_id: str) -> Answer:
    """What a bulk retry's answer says of one task."""
    if answer.outcome is not Outcome.ACCEPTED:
        return answer
    document, reason = answer.document, answer.document["failed"].get(first_id, "")
    if first_id in document["created"]:
        return replace(answer, document={"task_id": document["created"][first_id]})
    if reason.endswith("_unavailable"):
        return replace(answer, outcome=Outcome.REFUSED)
    is_open = reason == "outcome_unknown" or first_id in document["untried"]
    return replace(answer, outcome=Outcome.UNKNOWN if is_open else Outcome.UNEXPECTED)
