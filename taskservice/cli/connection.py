"""What every command has: the options that name the service, and an exit code for each way to fail.

Must not know what a command does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec

import click

from taskservice.cli.screen import Screen, plain
from taskservice.client import (
    ApiError,
    ClientError,
    InvalidArgument,
    TaskClient,
    Unauthorized,
    Unreachable,
    WaitTimedOut,
)

Arguments = ParamSpec("Arguments")

DEFAULT_URL = "http://127.0.0.1:5000"

DONE = 0
TASK_UNSUCCESSFUL = 1  # 2 is click's own, for wrong usage
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Connection:
    """The service a command talks to, and where its answers are shown."""

    client: TaskClient
    screen: Screen


class RefusedByService(click.ClickException):
    """The service said no."""

    exit_code = 3


class Unavailable(click.ClickException):
    """The service cannot be reached, or cannot do it now."""

    exit_code = 4


class NotFinalInTime(click.ClickException):
    """Watching ended before the task did."""

    exit_code = 5


_OPTIONS = (
    click.option("--url", envvar="TASKS_URL", default=DEFAULT_URL, show_default=True, show_envvar=True,
                 help="The service's address."),
    click.option("--api-key", envvar="TASKS_API_KEY", show_envvar=True, metavar="KEY",
                 help="Better in the environment or a file than here, where others on this machine can read it."),
    click.option("--api-key-file", envvar="TASKS_API_KEY_FILE", show_envvar=True,
                 type=click.File(encoding="utf-8", errors="replace"),
                 help="A file that holds the key; wins over --api-key."),
    click.option("--timeout", "timeout_s", type=click.FloatRange(min=0, min_open=True), default=10.0,
                 show_default=True, metavar="SECONDS", help="How long to go on trying to reach the service."),
    click.option("--json", "as_json", is_flag=True, help="Answer with JSON, one document a line."),
)  # fmt: skip


def connected(command: Callable[Concatenate[Connection, Arguments], None]) -> Callable[..., None]:
    """Give a command the options above, and a Connection in place of them."""

    @functools.wraps(command)
    def run(
        *args: Any, url: str, api_key: str | None, api_key_file: Any, timeout_s: float, as_json: bool, **kwargs: Any
    ) -> None:
        screen = Screen(as_json=as_json)
        key = (api_key_file.read() if api_key_file else api_key or "").strip() or None
        with _failing(), _client(url, key, timeout_s, screen) as client:
            command(Connection(client, screen), *args, **kwargs)

    for option in reversed(_OPTIONS):
        run = option(run)
    return run


def _client(url: str, api_key: str | None, timeout_s: float, screen: Screen) -> TaskClient:
    has_told = False

    def tell_once(failure: ClientError, _: float) -> None:
        nonlocal has_told
        if not has_told:
            screen.tell(f"{failure}; trying again for up to {timeout_s:g} s")
        has_told = True

    return TaskClient(url, api_key, timeout_s=timeout_s, on_repeat=tell_once)


@contextmanager
def _failing() -> Iterator[None]:
    """Each way to fail as a sentence and an exit code."""
    try:
        yield
    except KeyboardInterrupt:  # click would exit with 1, which says that the task failed
        click.get_current_context().exit(INTERRUPTED)
    except InvalidArgument as error:
        raise click.UsageError(plain(str(error))) from error
    except ApiError as error:
        kind = RefusedByService if error.status < 500 else Unavailable
        raise kind(plain(_explained(error))) from error
    except WaitTimedOut as error:
        raise NotFinalInTime(f"{error}; watch {error.task.task_id} goes on") from error
    except Unreachable as error:
        hint = "Is it running there? --url or TASKS_URL names another address."
        raise Unavailable(plain(f"{error}. {hint}")) from error
    except ClientError as error:
        raise Unavailable(plain(str(error))) from error


def _explained(error: ApiError) -> str:
    lines = [f"{error.detail} ({error.status} {error.error})"]
    lines += [f"  {one.pointer or '/'}: {one.detail}" for one in error.errors]
    if isinstance(error, Unauthorized):
        lines.append("  The key comes from TASKS_API_KEY, or from the file that TASKS_API_KEY_FILE names.")
    if error.request_id:
        lines.append(f"  request_id {error.request_id}")
    return "\n".join(lines)
