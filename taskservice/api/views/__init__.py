"""Representations: what a record, a task type or a file looks like to a client. They are the OpenAPI schemas too.

Must not know how a request arrives or where records are kept.
"""

from __future__ import annotations

from taskservice.api.views.instants import Instant, instant
from taskservice.api.views.many import (
    AcceptedBatch,
    Batch,
    BatchAccepted,
    BatchLinks,
    BatchRejected,
    BulkOutcome,
    FieldProblem,
    batch,
    batch_path,
)
from taskservice.api.views.service import Files, FileView, Health, Purged, Queues, QueueView, queue, stored_file
from taskservice.api.views.task_types import DryRun, RateLimitView, TaskTypes, TaskTypeView, dry_run, task_type
from taskservice.api.views.tasks import (
    MAX_RETRY_AFTER_S,
    AcceptedTask,
    AttemptView,
    ErrorView,
    Links,
    ProgressView,
    Task,
    Tasks,
    accepted_task,
    retry_after_s,
    status_at,
    task,
    task_path,
)

__all__ = [
    "MAX_RETRY_AFTER_S",
    "AcceptedBatch",
    "AcceptedTask",
    "AttemptView",
    "Batch",
    "BatchAccepted",
    "BatchLinks",
    "BatchRejected",
    "BulkOutcome",
    "DryRun",
    "ErrorView",
    "FieldProblem",
    "FileView",
    "Files",
    "Health",
    "Instant",
    "Links",
    "ProgressView",
    "Purged",
    "QueueView",
    "Queues",
    "RateLimitView",
    "Task",
    "TaskTypeView",
    "TaskTypes",
    "Tasks",
    "accepted_task",
    "batch",
    "batch_path",
    "dry_run",
    "instant",
    "queue",
    "retry_after_s",
    "status_at",
    "stored_file",
    "task",
    "task_path",
    "task_type",
]
