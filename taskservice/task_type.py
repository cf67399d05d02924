"""A kind of work: its parameters, its function and its limits.

Standard library only; must not know any of the types that there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from taskservice.context import TaskContext
from taskservice.model import RateLimit


class ParametersModel(Protocol):
    """The part of a pydantic model that the service uses of a type's parameters."""

    @classmethod
    def model_validate(cls, obj: Any) -> Any: ...

    @classmethod
    def model_json_schema(cls) -> dict[str, Any]: ...

    def model_dump(self, *, mode: str, exclude_unset: bool) -> dict[str, Any]: ...


Handler = Callable[[Any, TaskContext], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class TaskType:
    """A kind of work: its parameters, its function and its limits."""

    name: str
    description: str
    parameters_model: type[ParametersModel]
    handler: Handler
    max_retries: int
    time_limit_s: int
    example: Mapping[str, Any]  # parameters that work as they stand
    rate_limit: RateLimit | None = None
    max_retry_delay_s: int | None = None  # the service's own MAX_RETRY_DELAY if None
    is_internal: bool = False  # the service's own work: clients cannot submit it
    is_dedicated: bool = False  # it has queues of its own
