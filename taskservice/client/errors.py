"""What a client raises: no answer, an answer that is none of ours, or the service's own refusal.

Must not know how an answer travelled here.
"""

from __future__ import annotations

from collections.abc import Sequence

from taskservice.client.results import Task
from taskservice.errors import FieldError, TaskServiceError


class ClientError(TaskServiceError):
    """Anything the client raises on purpose."""


class InvalidArgument(ClientError, ValueError):
    """No request can be made of an argument; nothing was sent."""


class Unreachable(ClientError):
    """Nobody answered in time. `was_sent`: the request may have arrived all the same."""

    def __init__(self, url: str, reason: str, *, was_sent: bool) -> None:
        super().__init__(f"{url} cannot be reached: {reason}")
        self.url = url
        self.reason = reason
        self.was_sent = was_sent


class UnexpectedAnswer(ClientError):
    """Something answered, but not as this service does: mostly the URL is another server's."""

    def __init__(self, url: str, what: str) -> None:
        super().__init__(f"{url} does not answer as a task service: {what}")
        self.url = url


class WaitTimedOut(ClientError):
    """The task was not final in time; `task` is how it was read last."""

    def __init__(self, task: Task, timeout_s: float) -> None:
        super().__init__(f"task {task.task_id} is still {task.status} after {timeout_s:g} s")
        self.task = task


class ApiError(ClientError):
    """The service's own problem document. `error` is the stable code, `errors` name the members that are wrong."""

    def __init__(
        self,
        status: int,
        error: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        request_id: str | None = None,
        outcome: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{status} {error}: {detail}")
        self.status = status
        self.error = error
        self.detail = detail
        self.errors = tuple(errors)
        self.request_id = request_id
        self.outcome = outcome  # of a submission that got 503: "refused" (it will not run) or "unknown"
        self.retry_after_s = retry_after_s


class Invalid(ApiError):
    """400, 413, 415, 422: the request will be refused the same way again."""


class Unauthorized(ApiError):
    """401, 403: the key is missing or wrong, or lacks the scope."""


class NotFound(ApiError):
    """404: no such task, file, queue or address."""


class Conflict(ApiError):
    """409: the task is not in a status that allows it, or its Idempotency-Key is in flight."""


class RateLimited(ApiError):
    """429: too many requests, and waiting for the next turn would take too long."""


class ServiceUnavailable(ApiError):
    """502, 503, 504: broker or store unreachable. `outcome` says what became of a submission."""


_CLASSES: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    409: Conflict,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    429: RateLimited,
    502: ServiceUnavailable,
    503: ServiceUnavailable,
    504: ServiceUnavailable,
}


def class_for(status: int) -> type[ApiError]:
    return _CLASSES.get(status, ApiError)
