"""Which tasks a client means: by their ids, or by what they have in common.

Must not know how tasks are found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from taskservice.api.services import Services, TaskIndex
from taskservice.errors import FieldError, InvalidSubmission
from taskservice.model import Priority, Record, Status, TaskFilter
from taskservice.request_bodies import Instant

MAX_IDS = 1000
MAX_MATCHED = 10_000
MAX_PAGE = 200
MAX_PAGE_BYTES = 8 * 2**20
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
    created_after: Instant | None = Field(default=None, description="Exclusive.")
    created_before: Instant | None = Field(default=None, description="Exclusive.")

    @property
    def is_empty(self) -> bool:
        return not self.model_dump(exclude_none=True)


class ListRequest(FilterRequest):
    """The query of GET /api/tasks."""

    limit: Annotated[int, Field(strict=False, ge=1, le=MAX_PAGE)] = Field(
        default=50, description="A page holds fewer when its tasks are large; `has_more` says whether more follow."
    )
    cursor: Word | None = Field(default=None, description="The `next_cursor` of the page before, with the same filter.")


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


def page_of(request: ListRequest, services: Services) -> tuple[list[Record], str | None]:
    """The tasks asked for, newest first, and the cursor of the next ones. Raises InvalidSubmission, Unavailable."""
    wanted = task_filter(request, pointer="")
    try:
        page = services.index.page(wanted, limit=request.limit, cursor=request.cursor)
    except ValueError as error:
        raise InvalidSubmission([FieldError("/cursor", str(error))]) from error
    count = fitting(services.records.sizes_bytes(page.task_ids))
    if count < len(page.task_ids):
        page = services.index.page(wanted, limit=count, cursor=request.cursor)
    return services.records.get_many(page.task_ids), page.next_cursor


def fitting(sizes_bytes: Sequence[int]) -> int:
    """How many of them are read at once, in that order; at least one."""
    totals = accumulate(sizes_bytes)
    return max(1, sum(total <= MAX_PAGE_BYTES for total in totals))


def ids_of(wanted: TaskFilter, index: TaskIndex) -> Iterator[str]:
    """Ids of all tasks that match, newest first. Raises Unavailable."""
    cursor: str | None = None
    while True:
        page = index.page(wanted, limit=MAX_PAGE, cursor=cursor)
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
