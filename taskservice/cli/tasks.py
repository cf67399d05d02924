"""The commands that change something: submit, retry, cancel; and watch, which submit and retry end with.

Must not know how answers look on a screen.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from taskservice.cli.connection import DONE, TASK_UNSUCCESSFUL, Connection, connected
from taskservice.cli.parameters import FileArgument, Instant, JSONObject, Member, file_parameter, merged, with_file
from taskservice.cli.screen import Screen, state_line, task_view
from taskservice.client import AcceptedTask, ServiceUnavailable, Task, TaskClient, TaskTypeInfo, Unreachable
from taskservice.model import Cancellation, Priority

_patience = click.option(
    "--for",
    "patience_s",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long to watch; else without limit.",
)
_wait = click.option("--wait", "is_watching", is_flag=True, help="Watch it until it is final.")
_parameters = click.option("--parameters", type=JSONObject(), help="A JSON object; @PATH reads a file, @- stdin.")
_members = click.option(
    "-p", "members", type=Member(), multiple=True, help="One parameter; wins over --parameters. May be repeated."
)


@click.command()
@click.argument("task_type")
@_parameters
@_members
@click.option("--file", "files", type=FileArgument(), multiple=True, help="Upload it and name it in the parameters.")
@click.option("--priority", type=click.Choice([one.value for one in Priority]), help="Else normal.")
@click.option("--delay", type=click.FloatRange(min=0), metavar="SECONDS", help="Run it so much later.")
@click.option("--run-at", type=Instant(), help="Run it then; without an offset it is local time.")
@click.option("--expires-in", type=click.FloatRange(min=0), metavar="SECONDS", help="Drop it if it starts later.")
@click.option("--max-retries", type=click.IntRange(0, 20), help="Else the type's own.")
@click.option("--tag", "tags", multiple=True, help="May be repeated.")
@click.option("--metadata", type=JSONObject(), help="A small JSON object that is echoed back.")
@click.option("--idempotency-key", help="Repeating the command with the same key does not submit twice.")
@_wait
@_patience
@connected
def submit(
    connection: Connection,
    /,
    *,
    task_type: str,
    parameters: Mapping[str, Any] | None,
    members: Sequence[tuple[str, Any]],
    files: Sequence[tuple[str | None, Path]],
    idempotency_key: str | None,
    is_watching: bool,
    patience_s: float | None,
    **options: Any,
) -> None:
    """Submit a task of type TASK_TYPE; print its id, or with --wait its end."""
    wanted = merged(parameters, members)
    if files:
        wanted = _with_uploads(connection.client, task_type, wanted, files)
    accepted = _submit(connection, task_type, wanted, idempotency_key or str(uuid.uuid4()), **options)
    _end_with(connection, accepted, is_watching=is_watching, patience_s=patience_s)


@click.command()
@click.argument("task_id")
@_parameters
@_members
@_wait
@_patience
@connected
def retry(
    connection: Connection,
    /,
    *,
    task_id: str,
    parameters: Mapping[str, Any] | None,
    members: Sequence[tuple[str, Any]],
    is_watching: bool,
    patience_s: float | None,
) -> None:
    """Submit the final task TASK_ID again, as a new one; parameters given here replace its own."""
    replaced = merged(parameters, members) if parameters is not None or members else None
    accepted = connection.client.retry(task_id, replaced)
    _end_with(connection, accepted, is_watching=is_watching, patience_s=patience_s)


@click.command()
@click.argument("task_id")
@_patience
@connected
def watch(connection: Connection, /, *, task_id: str, patience_s: float | None) -> None:
    """Show how the task TASK_ID goes on, and end with its result."""
    _watch(connection, task_id, patience_s)


@click.command()
@click.argument("task_id")
@connected
def cancel(connection: Connection, /, *, task_id: str) -> None:
    """Cancel the task TASK_ID: it will not run, or if it does already, it is asked to stop."""
    outcome = connection.client.cancel(task_id)
    if connection.screen.as_json:
        connection.screen.json({"task_id": task_id, "cancellation": outcome})
    else:
        connection.screen.show("cancelled" if outcome is Cancellation.CANCELLED else "running, and asked to stop")


def _submit(
    connection: Connection, task_type: str, parameters: Mapping[str, Any], idempotency_key: str, **options: Any
) -> AcceptedTask:
    """If it cannot be known whether it was accepted, the key is what makes the next try safe."""
    try:
        return connection.client.submit(task_type, parameters, idempotency_key=idempotency_key, **options)
    except (ServiceUnavailable, Unreachable):
        connection.screen.tell(f"To try again without submitting twice, add --idempotency-key {idempotency_key}")
        raise


def _with_uploads(
    client: TaskClient, task_type: str, parameters: Mapping[str, Any], files: Sequence[tuple[str | None, Path]]
) -> dict[str, Any]:
    """The parameters with every file's name in its place; uploads only once all places are known."""
    schema = _known_type(client, task_type).parameters_schema
    wanted = dict(parameters)
    for name, path in files:
        wanted = with_file(wanted, name or file_parameter(schema), path.name, schema)
    for _, path in files:
        client.upload(path)
    return wanted


def _known_type(client: TaskClient, task_type: str) -> TaskTypeInfo:
    known = {one.name: one for one in client.task_types()}
    if task_type not in known:
        raise click.UsageError(f"{task_type!r} is not one of the service's task types: {', '.join(known)}")
    return known[task_type]


def _end_with(connection: Connection, accepted: AcceptedTask, *, is_watching: bool, patience_s: float | None) -> None:
    screen = connection.screen
    if screen.as_json:
        screen.json(accepted.document)
    elif is_watching:
        screen.tell(f"accepted as {accepted.task_id}")
    else:
        screen.show(accepted.task_id)
    if is_watching:
        _watch(connection, accepted.task_id, patience_s)


def _watch(connection: Connection, task_id: str, patience_s: float | None) -> None:
    task = _follow(connection.client, connection.screen, task_id, patience_s)
    if not connection.screen.as_json:
        connection.screen.show(task_view(task))
    click.get_current_context().exit(DONE if task.has_succeeded else TASK_UNSUCCESSFUL)


def _follow(client: TaskClient, screen: Screen, task_id: str, patience_s: float | None) -> Task:
    """The final task, after showing each change: as a bar, as JSON lines, or as remarks."""
    task: Task | None = None
    if screen.is_watched:
        with screen.progress() as line:
            for task in client.watch(task_id, patience_s):
                line.show(task)
    else:
        for task in client.watch(task_id, patience_s):
            if screen.as_json:
                screen.json(task.document)
            elif not task.is_final:
                screen.tell(state_line(task))
    assert task is not None  # noqa: S101 - watch yields at least the final one
    return task
