"""What a command shows: tables and progress bars to a person, plain columns to a pipe, JSON lines when asked.

Must not know where a document came from; trusts no text in it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol, TypeVar

from rich import box
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from taskservice.client import Queue, Task
from taskservice.model import Status

PIPE_WIDTH = 100_000  # nobody reads it: nothing is cut or wrapped

_STYLES = {
    Status.SUCCEEDED: "green",
    Status.FAILED: "bold red",
    Status.CANCELLED: "yellow",
    Status.EXPIRED: "yellow",
    Status.RUNNING: "cyan",
    Status.RETRYING: "magenta",
}


class Documented(Protocol):
    """Any of the client's results."""

    @property
    def document(self) -> Mapping[str, Any]: ...


Shown = TypeVar("Shown", bound=Documented)


class Screen:
    """Standard output for answers, standard error for remarks."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        is_pipe = not sys.stdout.isatty()
        self.is_watched = not is_pipe and not as_json  # a person looks: a line may be drawn over
        self._out = Console(width=PIPE_WIDTH if is_pipe else None, highlight=False, soft_wrap=is_pipe)
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)

    def json(self, document: Mapping[str, Any]) -> None:
        """One line, ASCII only."""
        sys.stdout.write(json.dumps(document) + "\n")
        sys.stdout.flush()

    def show(self, renderable: RenderableType) -> None:
        self._out.print(renderable)

    def tell(self, remark: str) -> None:
        """To the person, never into the output."""
        self._err.print(Text(plain(remark)))

    def answer(self, result: Documented, renderable: RenderableType) -> None:
        if self.as_json:
            self.json(result.document)
        else:
            self.show(renderable)

    def answers(self, results: Iterable[Shown], table: Callable[[Iterable[Shown]], Table]) -> None:
        """The results as JSON lines while they come, or the table that is made of them all."""
        if self.as_json:
            for result in results:
                self.json(result.document)
        else:
            self.show(table(results))

    @contextmanager
    def progress(self) -> Iterator[ProgressLine]:
        """A bar that follows a task, and disappears; only where `is_watched`."""
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), console=self._out, transient=True) as bar:
            yield ProgressLine(bar)


class ProgressLine:
    """One task's bar."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._line = bar.add_task("", total=None)

    def show(self, task: Task) -> None:
        current, total = (task.progress.current, task.progress.total) if task.progress else (0, None)
        self._bar.update(self._line, description=state_line(task), completed=current, total=total or None)


def plain(text: str) -> str:
    """Without anything a terminal would act upon: what tasks and servers say is a stranger's text."""
    return "".join(one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode() for one in text)


def state_line(task: Task) -> str:
    """`running, attempt 2 of 4: 30/100 pages`."""
    words = str(task.status)
    if task.attempt > 1:
        words += f", attempt {task.attempt} of {task.max_attempts}"
    if task.status in (Status.SCHEDULED, Status.RETRYING):
        words += f" until {_local(task.due_at)}"
    if task.progress and not task.is_final:
        words += f": {task.progress.current}/{task.progress.total} {task.progress.message}"
    return plain(words.rstrip())


def task_view(task: Task) -> Table:
    """Everything about one task, a member a line."""
    rows: list[tuple[str, str | Text | None]] = [
        ("task", task.task_id),
        ("status", Text(state_line(task), style=_STYLES.get(task.status, ""))),
        ("type", task.task_type),
        ("priority", task.priority),
        ("created", _local(task.created_at)),
        ("started", _local(task.started_at)),
        ("finished", _local(task.finished_at)),
        ("run time", None if task.run_s is None else f"{task.run_s:g} s"),
        ("worker", task.worker),
        ("tags", ", ".join(task.tags)),
        ("metadata", _json(task.metadata) if task.metadata else None),
        ("retry of", task.retried_from),
        ("parameters", _json(task.parameters)),
        ("error", f"{task.error.code}: {task.error.message}" if task.error else None),
        ("result", None if task.result is None else _json(task.result)),
    ]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value:
            table.add_row(name, value if isinstance(value, Text) else Text(plain(value)))
    return table


def task_table(tasks: Iterable[Task]) -> Table:
    table = _table("task", "type", "status", "priority", "attempt", "created", "run time")
    for task in tasks:
        status = Text(task.status, style=_STYLES.get(task.status, ""))
        run_s = "" if task.run_s is None else f"{task.run_s:g} s"
        start = (task.task_id, task.task_type, status, task.priority)
        table.add_row(*_cells(*start, str(task.attempt), _local(task.created_at), run_s))
    return table


def queue_table(queues: Iterable[Queue]) -> Table:
    table = _table("queue", "depth", "unacknowledged", "consumers", "oldest", "")
    for queue in queues:
        oldest = "" if queue.oldest_age_s is None else f"{queue.oldest_age_s:.0f} s"
        unacknowledged = "" if queue.unacknowledged is None else str(queue.unacknowledged)
        counts = (str(queue.depth), unacknowledged, str(queue.consumers))
        table.add_row(*_cells(queue.name, *counts, oldest, "paused" if queue.is_paused else ""))
    return table


def document_table(results: Iterable[Documented]) -> Table:
    """Whatever members they have, a column each."""
    documents = [one.document for one in results]
    names = list(dict.fromkeys(name for document in documents for name in document))
    table = _table(*map(plain, names))
    for document in documents:
        table.add_row(*_cells(*(_scalar(document.get(name)) for name in names)))
    return table


def _table(*columns: str) -> Table:
    """Lines and headings help a person; columns alone help a pipe."""
    table = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    for column in columns:
        table.add_column(Text(column), no_wrap=column == "task", overflow="fold")
    return table


def _cells(*values: str | Text) -> list[Text]:
    return [one if isinstance(one, Text) else Text(plain(one).replace("\n", " ")) for one in values]


def _scalar(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _local(moment: datetime | None) -> str:
    """In the reader's own zone."""
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
