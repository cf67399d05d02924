"""The commands that look: get, list, queues, workers; queues pauses and resumes too.

Must not know how answers look on a screen.
"""

from __future__ import annotations

from typing import Any

import click

from taskservice.cli.connection import Connection, connected
from taskservice.cli.parameters import Instant
from taskservice.cli.screen import document_table, queue_table, task_table, task_view
from taskservice.model import Priority, Status


@click.command()
@click.argument("task_id")
@connected
def get(connection: Connection, /, *, task_id: str) -> None:
    """Show the task TASK_ID as it is now."""
    task = connection.client.get(task_id)
    connection.screen.answer(task, task_view(task))


@click.command("list")
@click.option("--status", type=click.Choice([one.value for one in Status]))
@click.option("--state", help="Celery's word: PENDING, STARTED, RETRY, SUCCESS, FAILURE, REVOKED.")
@click.option("--type", "task_type")
@click.option("--priority", type=click.Choice([one.value for one in Priority]))
@click.option("--tag")
@click.option("--after", "created_after", type=Instant(), help="Created after; without an offset it is local time.")
@click.option("--before", "created_before", type=Instant(), help="Created before.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many.")
@connected
def list_tasks(connection: Connection, /, *, limit: int, **options: Any) -> None:
    """List tasks, newest first. Every option given must hold."""
    tasks = connection.client.list(limit=limit, **{name: value for name, value in options.items() if value is not None})
    connection.screen.answers(tasks, task_table)


@click.command()
@click.option("--pause", metavar="NAME", help="Pause this queue first: its tasks stay queued.")
@click.option("--resume", metavar="NAME", help="Resume this queue first.")
@connected
def queues(connection: Connection, /, *, pause: str | None, resume: str | None) -> None:
    """Show the queues."""
    if pause is not None:
        connection.client.pause(pause)
    if resume is not None:
        connection.client.resume(resume)
    connection.screen.answers(connection.client.queues(), queue_table)


@click.command()
@connected
def workers(connection: Connection) -> None:
    """Show the workers."""
    connection.screen.answers(connection.client.workers(), document_table)
