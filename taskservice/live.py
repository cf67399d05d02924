"""One reader of the event stream per process, and everyone in it who waits for events.

Must not know HTTP, nor how the stream is kept.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from taskservice.errors import Unavailable
from taskservice.listeners import Batch, Listener
from taskservice.model import Record
from taskservice.records.events import BEGINNING, EventId, TaskEvent

logger = logging.getLogger(__name__)

READ_S = 0.5  # the store's client gives up on an answer after 1 s
AWAY_S = 0.5  # between two tries while the store is away
READ_ANYWAY_S = 5.0  # a long poll looks at its task without being told: events may be late
PAUSE_PER_LISTENER_S = 0.004  # so at most about 250 sends a second, whatever the rate of events
MAX_PAUSE_S = 1.0


class EventSource(Protocol):
    """Where events come from; every method raises Unavailable."""

    def bounds(self) -> tuple[EventId, EventId]:
        """Ids of the oldest event and of the newest."""

    def read(self, after: EventId, *, wait_s: float) -> list[TaskEvent]:
        """The next events, in order; empty when there was none in time."""

    def between(self, after: EventId, until: EventId) -> Iterator[list[TaskEvent]]:
        """Pages of events later than `after` and not later than `until`."""


class RecordReader(Protocol):
    """Where tasks are read."""

    def get(self, task_id: str) -> Record | None:
        """Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class Missed:
    """Pages of events in order, up to and including `until`. Iterating raises Unavailable."""

    pages: Iterator[list[TaskEvent]]
    until: EventId


class Live:
    """The hub. Reads while someone listens and starts its thread at the first listener, so nothing is open before."""

    def __init__(self, source: EventSource, records: RecordReader, *, hidden_types: Collection[str] = ()) -> None:
        """Tasks of `hidden_types` are the service's own: told to who follows one, not to who follows all."""
        self._hidden_types = frozenset(hidden_types)
        self._source = source
        self._records = records
        self._lock = threading.Lock()
        self._listeners: defaultdict[str | None, set[Listener]] = defaultdict(set)  # None: of all tasks
        self._position = BEGINNING  # everything up to here was handed out
        self._reader: threading.Thread | None = None
        self._closed = threading.Event()
        self._is_store_away = False

    @property
    def listener_count(self) -> int:
        """How many listen now, long polls included."""
        with self._lock:
            return sum(map(len, self._listeners.values()))

    def listen(self, task_id: str | None = None) -> Listener:
        """Listen to one task, or to all. To be left again. Raises Unavailable."""
        _, newest = self._source.bounds()
        with self._lock:
            if self._reader is None:
                self._position = newest
            listener = Listener(task_id, self._position)
            if self._closed.is_set():
                listener.end()
                return listener
            self._listeners[task_id].add(listener)
            if self._reader is None:
                self._reader = threading.Thread(target=self._run, name="live", daemon=True)
                self._reader.start()
        return listener

    def leave(self, listener: Listener) -> None:
        """End it; leaving twice is leaving once."""
        with self._lock:
            self._forget([listener])

    def missed(self, after: EventId | None) -> Missed | None:
        """What happened between that event and now; None: it is unknown or trimmed. Raises Unavailable."""
        if after is None:
            return None
        oldest, newest = self._source.bounds()
        return Missed(self._source.between(after, newest), newest) if oldest <= after <= newest else None

    def shown(self, events: Sequence[TaskEvent]) -> list[TaskEvent]:
        """Those that are for who follows all tasks."""
        return [event for event in events if event.task_type not in self._hidden_types]

    def wait_until_final(self, task_id: str, timeout_s: float) -> Record | None:
        """The task as soon as it is final, or as it is when time is up or this process stops; None: there is none.

        Raises Unavailable.
        """
        deadline = time.monotonic() + timeout_s
        listener = self.listen(task_id)
        try:
            while True:
                record = self._records.get(task_id)
                if record is None or record.status.is_final or not _await_final(listener, deadline):
                    return record
        finally:
            self.leave(listener)

    def close(self) -> None:
        """The process is about to stop: every listener ends now, later ones at once."""
        self._closed.set()
        with self._lock:
            self._forget_all()

    def _run(self) -> None:
        try:
            while self._is_wanted():
                self._read_on()
        finally:
            with self._lock:
                if self._reader is threading.current_thread():  # it fails: who listens must not wait for ever
                    self._reader = None
                    self._forget_all()

    def _is_wanted(self) -> bool:
        with self._lock:
            if self._listeners and not self._closed.is_set():
                return True
            self._reader = None
            return False

    def _read_on(self) -> None:
        try:
            events = self._source.read(self._position, wait_s=READ_S)
        except Unavailable:
            self._note_store(is_away=True)
            self._closed.wait(AWAY_S)
            return
        self._note_store(is_away=False)
        if events:
            self._hand_out(events)
            self._closed.wait(self._pause_s())  # what arrives meanwhile is sent together

    def _note_store(self, *, is_away: bool) -> None:
        if is_away is not self._is_store_away:
            self._is_store_away = is_away
            logger.warning("live.store_%s position=%s", "away" if is_away else "back", self._position)

    def _hand_out(self, events: Sequence[TaskEvent]) -> None:
        with self._lock:
            self._position = events[-1].id
            if shown := self.shown(events):
                self._give(None, shown)
            for task_id, changes in _by_task(events, self._listeners.keys()).items():
                self._give(task_id, changes)

    def _give(self, task_id: str | None, events: Sequence[TaskEvent]) -> None:
        batch = Batch(tuple(events))
        late = [listener for listener in self._listeners.get(task_id, ()) if not listener.offer(batch)]
        if late:
            logger.warning("live.dropped listeners=%d", len(late))
            self._forget(late)

    def _pause_s(self) -> float:
        with self._lock:
            return min(MAX_PAUSE_S, PAUSE_PER_LISTENER_S * len(self._listeners.get(None, ())))

    def _forget_all(self) -> None:
        self._forget([listener for group in self._listeners.values() for listener in group])

    def _forget(self, listeners: Iterable[Listener]) -> None:
        for listener in listeners:
            group = self._listeners.get(listener.task_id, set())
            group.discard(listener)
            if not group:
                self._listeners.pop(listener.task_id, None)
            listener.end()


def _by_task(events: Sequence[TaskEvent], wanted: Iterable[str | None]) -> dict[str, list[TaskEvent]]:
    found: defaultdict[str, list[TaskEvent]] = defaultdict(list)
    for event in events:
        if event.task_id in wanted:
            found[event.task_id].append(event)
    return found


def _await_final(listener: Listener, deadline: float) -> bool:
    """True: look again, the task may be final now. False: no more time."""
    look_at = min(deadline, time.monotonic() + READ_ANYWAY_S)
    while listener.is_open and (left_s := look_at - time.monotonic()) > 0:
        if any(event.status.is_final for event in listener.receive(left_s).events):
            return True
    return listener.is_open and look_at < deadline
