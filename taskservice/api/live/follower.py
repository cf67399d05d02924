"""One client that follows one task, from its snapshot or from where it was, to the final event.

Must not know how its connection is served.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from taskservice.api import views
from taskservice.api.live.frames import HEARTBEAT, NAMES, changed, frame
from taskservice.api.live.peer import HEARTBEAT_S, Peer
from taskservice.api.services import TaskRecords
from taskservice.errors import Unavailable
from taskservice.listeners import Batch, Listener
from taskservice.model import Record
from taskservice.records.events import EventId, TaskEvent

AWAY_S = 1.0  # between two tries while the store is away


@dataclass(slots=True)
class TaskFollower:
    """One stream of one task."""

    listener: Listener
    peer: Peer
    records: TaskRecords

    def begin(self, record: Record) -> Iterator[bytes]:
        """A snapshot, then each change that is not in it."""
        view = views.task(record)
        yield frame(self.listener.after, "snapshot", view)
        if record.status.is_final:
            yield frame(self.listener.after, record.status, view)  # who waits for this name need not know snapshots
            return
        yield from self._follow(after=self.listener.after, version=record.version)

    def resume(self, missed: Sequence[TaskEvent], until: EventId) -> Iterator[bytes]:
        """What was missed, then each change."""
        for event in missed:
            yield from self._told(event)
            if event.status.is_final:
                return
        yield from self._follow(after=missed[-1].id if missed else until, version=0)

    def _follow(self, *, after: EventId, version: int) -> Iterator[bytes]:
        for batch in arriving(self.listener, self.peer):
            if not batch.events:
                yield HEARTBEAT
            for event in batch.events:
                if event.status.is_final:  # whatever its version: the record may have been lost and made again
                    yield from self._told(event)
                    return
                if event.id > after and event.version > version:
                    yield from self._told(event)

    def _told(self, event: TaskEvent) -> Iterator[bytes]:
        """The event, as soon as the store answers. Raises Unavailable when the stream ends before."""
        if event.name not in NAMES:
            return
        while True:
            try:
                frame_of_event = changed(event, self.records.get(event.task_id))
                break
            except Unavailable:
                if not self.listener.is_open or self.peer.has_left():
                    raise
            yield HEARTBEAT
            self.listener.pause(AWAY_S)
        yield frame_of_event


def arriving(listener: Listener, peer: Peer) -> Iterator[Batch]:
    """Until the client has left or is dropped, or this process stops; an empty batch when nothing came for a while."""
    while listener.is_open and not peer.has_left():
        batch = listener.receive(HEARTBEAT_S)
        if listener.is_open:
            yield batch
