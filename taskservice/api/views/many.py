"""Many tasks at once as a client reads them: a batch, and what became of a wish about many.

Must not know how the tasks were found.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, Field

from taskservice.model import Status


class FieldProblem(BaseModel):
    """One thing that is wrong with the request."""

    pointer: str = Field(description="RFC 6901 pointer to the member.")
    detail: str


class BatchAccepted(BaseModel):
    index: int
    task_id: str


class BatchRejected(BaseModel):
    index: int
    error: str = Field(description="A stable code, as in a problem document.")
    detail: str
    errors: list[FieldProblem] = Field(description="Pointers into this submission.")
    outcome: str | None = Field(description="Where broker or store failed: refused or unknown.")


class BatchLinks(BaseModel):
    self: str


class AcceptedBatch(BaseModel):
    """The promise for each that has a task_id; in the order of the submissions."""

    batch_id: str
    accepted: int
    rejected: int
    results: list[BatchAccepted | BatchRejected]
    links: BatchLinks


class Batch(BaseModel):
    """How far the tasks of a batch are."""

    batch_id: str
    total: int = Field(description="Tasks that are still kept.")
    is_final: bool = Field(description="All of them have ended.")
    counts: dict[Status, int] = Field(description="Of each status.")
    links: BatchLinks


class BulkOutcome(BaseModel):
    """What became of each task that was matched."""

    matched: int
    succeeded: list[str] = Field(description="Ids of tasks that were cancelled, asked to stop, or repeated.")
    failed: dict[str, str] = Field(description="By id, why not: a stable code.")
    created: dict[str, str] = Field(description="Of a retry: by id, the id of the new task.")
    has_more: bool = Field(description="There was no time for all of them.")
    untried: list[str] = Field(description="Ids for which there was no time.")


def batch_path(batch_id: str) -> str:
    return f"/api/batches/{batch_id}"


def batch(batch_id: str, counts: Mapping[Status, int]) -> Batch:
    return Batch(
        batch_id=batch_id,
        total=sum(counts.values()),
        is_final=all(status.is_final for status in counts),
        counts={status: counts.get(status, 0) for status in Status},
        links=BatchLinks(self=batch_path(batch_id)),
    )
