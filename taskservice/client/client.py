"""`TaskClient`: every call of the API as a method, safe to repeat without running anything twice.

Must not know how calls are sent or repeated: `transport` does.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack

import requests

from taskservice.client import results
from taskservice.client.addresses import TaskQuery, instant, query_members, segment, task_path
from taskservice.client.answers import retry_after_s
from taskservice.client.errors import Conflict, Invalid, InvalidArgument, UnexpectedAnswer, WaitTimedOut
from taskservice.client.results import AcceptedTask, BulkOutcome, Document, Queue, Task, TaskTypeInfo, Worker
from taskservice.client.transport import SHORTEST_PAUSE_S, Call, OnRepeat, Transport, encode_json
from taskservice.context import StoredFile
from taskservice.model import Cancellation, Priority, Status

Parsed = TypeVar("Parsed")

LONGEST_WAIT_S = 30  # of one ?wait=
LONGEST_PAGE = 200
CHUNK_BYTES = 2**16


class TaskClient:
    """A client of one service, for one thread; a context manager, or `close()` it.

    Every call takes at most `timeout_s` seconds, repeats included: it follows Retry-After on 429, 503 and an
    Idempotency-Key in flight, and asks again when a connection fails.

    Every call may raise ApiError (NotFound, Conflict, Invalid, …), Unreachable and UnexpectedAnswer; InvalidArgument
    when no request can be made of its arguments.
    """

    def __init__(
        self, url: str, api_key: str | None = None, *, timeout_s: float = 30.0, on_repeat: OnRepeat | None = None
    ) -> None:
        self._transport = Transport(url, api_key, timeout_s, on_repeat)
        self._has_wait = True  # until the service refuses ?wait=

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    def submit(
        self,
        task_type: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        priority: Priority | str | None = None,
        delay: float | None = None,
        run_at: datetime | None = None,
        expires_in: float | None = None,
        max_retries: int | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        callback: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> AcceptedTask:
        """Returns once the task is promised to run; None and empty mean the service's default.

        Its own repeats carry one Idempotency-Key. Give `idempotency_key` to make repeats of the whole call safe too.
        """
        members = {
            "parameters": dict(parameters or {}),
            "priority": priority,
            "delay": delay,
            "run_at": run_at and instant(run_at),
            "expires_in": expires_in,
            "max_retries": max_retries,
            "tags": [*tags] or None,
            "metadata": metadata and dict(metadata),
            "callback": callback and dict(callback),
        }
        body = {"task_type": task_type, **{name: value for name, value in members.items() if value is not None}}
        return self._submit("/api/tasks", body, idempotency_key)

    def retry(self, task_id: str, parameters: Mapping[str, Any] | None = None) -> AcceptedTask:
        """A final task again, as a new one. Raises Conflict while it is not final."""
        body = {} if parameters is None else {"parameters": dict(parameters)}
        return self._submit(f"{task_path(task_id)}/retry", body, None)

    def get(self, task_id: str) -> Task:
        return self._json(Call("GET", task_path(task_id)), Task.from_document)

    def list(self, *, limit: int | None = None, **query: Unpack[TaskQuery]) -> Iterator[Task]:
        """Newest first, page by page as they are consumed; `limit` bounds them all, None: every task there is."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            parts = {**query_members(query), "limit": str(min(left or LONGEST_PAGE, LONGEST_PAGE))}
            if cursor is not None:
                parts["cursor"] = cursor
            tasks, cursor = self._json(Call("GET", "/api/tasks", query=parts), _page)
            yield from tasks
            if cursor is None:
                return
            left = None if left is None else left - len(tasks)

    def wait(self, task_id: str, timeout_s: float | None = None) -> Task:
        """The task once it is final; None waits without limit. Raises WaitTimedOut."""
        readings = self._readings(task_id, timeout_s, lambda _: LONGEST_WAIT_S)
        return next(task for task in readings if task.is_final)

    def watch(self, task_id: str, timeout_s: float | None = None) -> Iterator[Task]:
        """Each reading that differs from the one before, the last one final. Raises WaitTimedOut."""
        seen: Task | None = None
        for task in self._readings(task_id, timeout_s, lambda asked_s: max(1, min(int(asked_s), LONGEST_WAIT_S))):
            if task != seen:
                yield task
            seen = task

    def cancel(self, task_id: str) -> Cancellation:
        """CANCELLED: it will not run. REQUESTED: it runs and was asked to stop. Raises Conflict when it has ended.

        One that is cancelled already counts as cancelled: an earlier try's answer may have been lost.
        """
        outcomes = {200: Cancellation.CANCELLED, 202: Cancellation.REQUESTED}
        try:
            status = self._transport.call(Call("DELETE", task_path(task_id)), lambda answer: answer.status_code)
        except Conflict:
            if self.get(task_id).status is not Status.CANCELLED:
                raise
            return Cancellation.CANCELLED
        if status not in outcomes:
            raise UnexpectedAnswer(self._transport.url, f"{status} to a cancellation")
        return outcomes[status]

    def run(self, task_id: str) -> Task:
        """A scheduled or retrying task now. Raises Conflict when it is neither."""
        return self._json(Call("POST", f"{task_path(task_id)}/run", headers=_new_key()), Task.from_document)

    def bulk(
        self,
        action: Literal["retry", "cancel"],
        *,
        task_ids: Sequence[str] | None = None,
        where: TaskQuery | None = None,
        dry_run: bool = False,
    ) -> BulkOutcome:
        """The same to many tasks: either those named or those that `where` selects. Raises InvalidArgument.

        There may be no time for all of them: see `BulkOutcome.untried`.
        """
        if (task_ids is None) == (where is None):
            raise InvalidArgument("give either task_ids or where")
        wanted = {"task_ids": [*task_ids]} if task_ids is not None else {"filter": query_members(where or {})}
        body = encode_json({"action": action, **wanted, "dry_run": dry_run})
        call = Call("POST", "/api/tasks/bulk", body=body, headers=_new_key())
        return self._json(call, BulkOutcome.from_document)

    def queues(self) -> tuple[Queue, ...]:
        return self._json(Call("GET", "/api/queues"), _all(Queue.from_document))

    def pause(self, queue: str) -> Queue:
        """Its workers take nothing more from it; holds across restarts."""
        return self._json(Call("PUT", f"/api/queues/{segment(queue)}/pause"), Queue.from_document)

    def resume(self, queue: str) -> Queue:
        return self._json(Call("PUT", f"/api/queues/{segment(queue)}/resume"), Queue.from_document)

    def workers(self) -> tuple[Worker, ...]:
        return self._json(Call("GET", "/api/workers"), _all(Worker.from_document))

    def task_types(self) -> tuple[TaskTypeInfo, ...]:
        return self._json(Call("GET", "/api/task-types"), _all(TaskTypeInfo.from_document))

    def upload(self, path: Path | str) -> StoredFile:
        """Under the file's own name, replacing one of that name; read into memory as a whole. Raises OSError."""
        return self._json(Call("POST", "/api/files", upload=Path(path)), results.stored_file)

    def download(self, filename: str, destination: Path | str) -> Path:
        """Into the destination (a directory: under its own name), whole or not at all. Raises OSError."""
        if Path(filename).name != filename:
            raise InvalidArgument(f"{filename!r} is not a file's name")
        path = Path(destination)
        target = path / filename if path.is_dir() else path
        self._transport.call(Call("GET", f"/api/files/{segment(filename)}"), lambda answer: _save(answer, target))
        return target

    def _submit(self, path: str, body: Mapping[str, Any], idempotency_key: str | None) -> AcceptedTask:
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else _new_key()

        def receive(answer: requests.Response) -> tuple[Document, bool]:
            return answer.json(), answer.headers.get("Idempotency-Replayed") == "true"

        document, is_replayed = self._transport.call(
            Call("POST", path, body=encode_json(body), headers=headers), receive
        )
        return self._parsed(lambda it: AcceptedTask.from_document(it, is_replayed=is_replayed), document)

    def _readings(self, task_id: str, timeout_s: float | None, hold: Callable[[float], int]) -> Iterator[Task]:
        """Read until final; `hold` says how long the service may keep an answer back, given its last Retry-After."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        asked_s = 1.0
        while True:
            began = time.monotonic()
            left_s = LONGEST_WAIT_S if deadline is None else max(0.0, deadline - began)
            patience_s = None if deadline is None else max(1.0, left_s)
            task, hold_s, asked_s = self._read(task_id, min(hold(asked_s), int(left_s)), patience_s)
            yield task
            if task.is_final:
                return
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimedOut(task, timeout_s or 0.0)
            if time.monotonic() - began < hold_s:  # it did not hold the answer back after all
                hold_s = 0
            if not hold_s:
                left_s = asked_s if deadline is None else deadline - time.monotonic()
                time.sleep(max(0.0, min(asked_s, left_s)))

    def _read(self, task_id: str, hold_s: int, timeout_s: float | None) -> tuple[Task, int, float]:
        """The task, how long the answer was allowed to take, and when the service thinks reading again is worth it."""
        hold_s = hold_s if self._has_wait else 0
        query = {"wait": str(hold_s)} if hold_s else {}

        def receive(answer: requests.Response) -> tuple[Document, float | None]:
            return answer.json(), retry_after_s(answer)

        try:
            call = Call("GET", task_path(task_id), query=query, hold_s=hold_s)
            document, asked_s = self._transport.call(call, receive, timeout_s=timeout_s)
        except Invalid as error:
            if not hold_s or all(one.pointer != "/wait" for one in error.errors):
                raise
            self._has_wait = False
            return self._read(task_id, 0, timeout_s)
        pause_s = 1.0 if asked_s is None else max(asked_s, SHORTEST_PAUSE_S)
        return self._parsed(Task.from_document, document), hold_s, pause_s

    def _json(self, call: Call, parse: Callable[[Document], Parsed]) -> Parsed:
        return self._parsed(parse, self._transport.call(call, lambda answer: answer.json()))

    def _parsed(self, parse: Callable[[Document], Parsed], document: Document) -> Parsed:
        try:
            return parse(document)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UnexpectedAnswer(self._transport.url, f"a member is missing or wrong ({error!r})") from error


def _all(parse: Callable[[Document], Parsed]) -> Callable[[Document], tuple[Parsed, ...]]:
    return lambda document: tuple(parse(one) for one in document["data"])


def _page(document: Document) -> tuple[tuple[Task, ...], str | None]:
    """Its tasks, and the cursor of the next one if there is one."""
    cursor = document["next_cursor"] if document["has_more"] else None
    return _all(Task.from_document)(document), cursor


def _save(answer: requests.Response, target: Path) -> None:
    """Through a neighbour that takes its place when it is complete."""
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        with partial.open("xb") as file:
            for chunk in answer.iter_content(CHUNK_BYTES):
                file.write(chunk)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _new_key() -> dict[str, str]:
    """So that a request whose answer was lost may be sent again."""
    return {"Idempotency-Key": str(uuid.uuid4())}
