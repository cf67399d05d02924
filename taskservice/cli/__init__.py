"""The command line: a client for the terminal and for scripts.

Reaches the service over HTTP only, through `taskservice.client`.
"""

from __future__ import annotations

import click

from taskservice import __version__
from taskservice.cli.keys import keys
from taskservice.cli.look import get, list_tasks, queues, workers
from taskservice.cli.tasks import cancel, retry, submit, watch
from taskservice.cli.webhooks import webhooks


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 the task failed, was cancelled or expired, 2 the command is wrong, 3 the service "
    "refused it, 4 the service cannot be reached or is unavailable, 5 the task was not final within --for.",
)
@click.version_option(__version__, message="%(version)s")
def main() -> None:
    """Submit tasks to a task service and look after them.

    The service is the one that --url or TASKS_URL names; its API key comes from TASKS_API_KEY, or from the file that
    TASKS_API_KEY_FILE names.
    """


for command in (submit, watch, get, list_tasks, retry, cancel, queues, workers, keys, webhooks):
    main.add_command(command)
