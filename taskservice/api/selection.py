"""Which tasks a client means: by their ids, or by what they have in common.

Must not know how tasks are found.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from taskservice.api.services import TaskIndex
from taskservice.errors import FieldError, InvalidSubmission
from taskservice.model import Priority, Status, TaskFilter

MAX_IDS = 1000
MAX_MATCHED = 10_000
_PAGE = 200
_STATES = frozenset(status.state for status in Status)


def _several(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _known_state(state: str) -> str:
    if state not in _STATES:
        raise ValueError(f"expected one of: {', '.join(sorted(_STATES))}")
    return state


OneStatus = Annotated[Status, Field(strict=False)]
OneState = Annotated[str, AfterValidator(_known_state), Field(json_schema_extra={"enum": sorted(_STATES)})]
Statuses = Annotated[list[OneStatus], Field(min_length=1)]
States = Annotated[list[OneState], Field(min_length=1)]
Word = Annotated[str, Field(min_length=1)]


class FilterRequest(BaseModel):
    """Every member given must hold; of several statuses or states, one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    status: Annotated[Statuses, BeforeValidator(_several, OneStatus | Statuses)] | None = None
    state: Annotated[States, BeforeValidator(_several, OneState | States)] | None = None
    task_type: Word | None = None
    priority: Annotated[Priority, Field(strict=False)] | None = None
    tag: Word | None = None
    created_after: Annotated[AwareDatetime, Field(strict=False)] | None = Field(default=None, description="Exclusive.")
    created_before: Annotated[AwareDatetime, Field(strict=False)] | None = Field(default=None, description="Exclusive.")

    @property
    def is_empty(self) -> bool:
        return not self.model_dump(exclude_none=True)


class BulkRequest(BaseModel):
    """The body of POST /api/tasks/bulk: exactly one of `task_ids` and `filter`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    action: Literal["retry", "cancel"]
    task_ids: Annotated[list[str], Field(min_length=1, max_length=MAX_IDS)] | None = None
    filter: FilterRequest | None = Field(
        default=None, description=f"At least one member; matching more than {MAX_MATCHED} tasks is refused."
    )
    dry_run: bool = Field(default=False, description="Say how many match, and do nothing.")


def task_filter(request: FilterRequest, *, pointer: str) -> TaskFilter:
    """The filter asked for. Raises InvalidSubmission when no task could ever match; `pointer` is the filter's own."""
    return TaskFilter(
        statuses=_statuses(request, pointer),
        task_type=request.task_type,
        priority=request.priority,
        tag=request.tag,
        created_after=request.created_after,
        created_before=request.created_before,
    )


def ids_of(wanted: TaskFilter, index: TaskIndex) -> Iterator[str]:
    """Ids of all tasks that match, newest first. Raises Unavailable."""
    cursor: str | None = None
    while True:
        page = index.page(wanted, limit=_PAGE, cursor=cursor)
        yield from page.task_ids
        cursor = page.next_cursor
        if cursor is None:
            return


def wanted_ids(wish: BulkRequest, index: TaskIndex) -> list[str]:
    """Those the client means, each once. Raises InvalidSubmission, Unavailable."""
    if (wish.task_ids is None) is (wish.filter is None):
        raise InvalidSubmission([FieldError("", "give exactly one of task_ids and filter")])
    if wish.filter is None:
        return list(dict.fromkeys(wish.task_ids or ()))
    if wish.filter.is_empty:
        raise InvalidSubmission([FieldError("/filter", "give at least one member; an empty filter is every task")])
    wanted = task_filter(wish.filter, pointer="/filter")
    if (matched := index.count(wanted)) > MAX_MATCHED:
        raise InvalidSubmission([FieldError("/filter", f"matches {matched} tasks; at most {MAX_MATCHED} at once")])
    return list(islice(ids_of(wanted, index), MAX_MATCHED))


def _statuses(request: FilterRequest, pointer: str) -> frozenset[Status]:
    """Empty when neither status nor state restricts."""
    named = frozenset(request.status or ())
    of_states = frozenset(status for status in Status if status.state in (request.state or ()))
    if not (named and of_states):
        return named or of_states
    if not named & of_states:
        raise InvalidSubmission([FieldError(f"{pointer}/state", "no status given has this state")])
    return named & of_states
