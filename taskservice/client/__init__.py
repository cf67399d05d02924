"""The service's Python client: `TaskClient`, what it answers with and what it raises.

Speaks HTTP only; must not know how the service is made.
"""

from __future__ import annotations

from taskservice.client.addresses import TaskQuery
from taskservice.client.client import TaskClient
from taskservice.client.errors import (
    ApiError,
    ClientError,
    Conflict,
    Invalid,
    InvalidArgument,
    NotFound,
    RateLimited,
    ServiceUnavailable,
    Unauthorized,
    UnexpectedAnswer,
    Unreachable,
    WaitTimedOut,
)
from taskservice.client.results import AcceptedTask, BulkOutcome, Queue, Task, TaskTypeInfo, Worker

__all__ = [
    "AcceptedTask",
    "ApiError",
    "BulkOutcome",
    "ClientError",
    "Conflict",
    "Invalid",
    "InvalidArgument",
    "NotFound",
    "Queue",
    "RateLimited",
    "ServiceUnavailable",
    "Task",
    "TaskClient",
    "TaskQuery",
    "TaskTypeInfo",
    "Unauthorized",
    "UnexpectedAnswer",
    "Unreachable",
    "WaitTimedOut",
    "Worker",
]
