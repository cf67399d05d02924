"""The command line against a scripted server: what it sends, prints and exits with, and what a person sees.

Must not know the service: what it may answer is API.md's word.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from taskservice.cli import main
from taskservice.cli.screen import plain
from tests.unit.test_client import (
    TASK_ID,
    TASK_PATH,
    Answer,
    ScriptedServer,
    accepted,
    problem,
    task_document,
)

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., Result]

TYPES = {
    "data": [
        {
            "name": "data_processing",
            "description": "",
            "parameters_schema": {"properties": {"data": {}, "file": {"anyOf": [{"type": "string"}]}, "query": {}}},
        },
        {
            "name": "email_sending",
            "description": "",
            "parameters_schema": {"properties": {"to": {}, "attachments": {"type": "array"}}},
        },
        {"name": "own", "description": "", "parameters_schema": {"properties": {"picture": {}}}},
    ]
}
STORED = Answer(201, {"filename": "sales.csv", "size_bytes": 8, "sha256": "0c", "mime_type": "text/csv"})


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def run(server: ScriptedServer) -> Run:
    """`run("get", TASK_ID, env={…})`: the command, against the scripted server."""

    def invoke(*arguments: str, env: dict[str, str] | None = None, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, arguments, env={"TASKS_URL": server.url, **(env or {})}, input=stdin)

    return invoke


@pytest.fixture
def sales(tmp_path: Path) -> Path:
    path = tmp_path / "sales.csv"
    path.write_text("a,b\n1,2\n")
    return path


# Submit


def test_submit_prints_the_id_and_nothing_else(server: ScriptedServer, run: Run) -> None:
    server.play(accepted())

    result = run("submit", "data_processing", "--parameters", '{"data": "x"}', "--priority", "high")

    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{TASK_ID}\n", "")
    assert server.requests[0].json == {
        "task_type": "data_processing",
        "parameters": {"data": "x"},
        "priority": "high",
    }


def test_members_are_texts_unless_written_as_json(server: ScriptedServer, run: Run) -> None:
    server.play(accepted())

    run("submit", "own", "--parameters", '{"a": 1, "b": 2}', "-p", "a=007", "-p", "c:=[1, null]", "-p", "d=x=y")

    assert server.requests[0].json["parameters"] == {"a": "007", "b": 2, "c": [1, None], "d": "x=y"}


def test_parameters_come_from_a_file_or_from_standard_input(server: ScriptedServer, run: Run, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"data": "f"}')
    server.play(accepted())

    run("submit", "data_processing", "--parameters", f"@{tmp_path / 'p.json'}")
    run("submit", "data_processing", "--parameters", "@-", stdin='{"data": "s"}')

    assert [request.json["parameters"]["data"] for request in server.requests] == ["f", "s"]


def test_every_option_of_a_submission_is_sent(server: ScriptedServer, run: Run) -> None:
    server.play(accepted())

    arguments = ["--run-at", "2026-12-01T08:00:00+02:00", "--expires-in", "60", "--max-retries", "0"]
    arguments += ["--tag", "a", "--tag", "b", "--metadata", '{"order": 17}', "--idempotency-key", "k1"]
    run("submit", "own", *arguments)

    assert server.requests[0].headers["Idempotency-Key"] == "k1"
    assert server.requests[0].json == {
        "task_type": "own",
        "parameters": {},
        "run_at": "2026-12-01T06:00:00.000Z",
        "expires_in": 60,
        "max_retries": 0,
        "tags": ["a", "b"],
        "metadata": {"order": 17},
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["--parameters", "{"],
        ["--parameters", "[1]"],
        ["--parameters", '{"a": NaN}'],
        ["--parameters", "@missing.json"],
        ["-p", "data"],
        ["-p", "=x"],
        ["-p", "n:=x"],
        ["--priority", "urgent"],
        ["--delay", "-1"],
        ["--run-at", "tomorrow"],
        ["--file", "missing.csv"],
        ["--url", "localhost:5000"],
        ["--api-key", "line\nbreak"],
    ],
)
def test_a_wrong_command_is_explained_and_sends_nothing(server: ScriptedServer, run: Run, arguments: list[str]) -> None:
    result = run("submit", "data_processing", *arguments)

    assert result.exit_code == 2
    assert "Error: " in result.stderr
    assert server.requests == []


def test_a_file_is_uploaded_and_named_in_the_parameters(server: ScriptedServer, run: Run, sales: Path) -> None:
    server.play(Answer(body=TYPES), STORED, accepted())

    result = run("submit", "data_processing", "--file", str(sales), "-p", "query=SELECT 1")

    assert result.exit_code == 0, result.stderr
    assert server.asked == ["GET /api/task-types", "POST /api/files", "POST /api/tasks"]
    assert server.requests[-1].json["parameters"] == {"query": "SELECT 1", "file": "sales.csv"}


def test_attachments_are_gathered(server: ScriptedServer, run: Run, sales: Path, tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("b")
    server.play(Answer(body=TYPES), STORED, STORED, accepted())

    run("submit", "email_sending", "--file", str(sales), "--file", str(tmp_path / "b.txt"))

    assert server.requests[-1].json["parameters"] == {"attachments": ["sales.csv", "b.txt"]}


def test_a_type_of_ones_own_is_told_which_parameter_takes_the_file(
    server: ScriptedServer, run: Run, sales: Path
) -> None:
    server.play(Answer(body=TYPES), STORED, accepted())

    result = run("submit", "own", "--file", f"picture={sales}")

    assert result.exit_code == 0, result.stderr
    assert server.requests[-1].json["parameters"] == {"picture": "sales.csv"}


@pytest.mark.parametrize(
    "arguments", [["own", "--file", "F"], ["none", "--file", "F"], ["data_processing", "--file", "F", "--file", "F"]]
)
def test_a_file_without_a_place_is_not_uploaded(
    server: ScriptedServer, run: Run, sales: Path, arguments: list[str]
) -> None:
    server.play(Answer(body=TYPES))

    result = run("submit", *(str(sales) if one == "F" else one for one in arguments))

    assert result.exit_code == 2
    assert server.asked == ["GET /api/task-types"]


# Watch


@pytest.mark.parametrize(("status", "code"), [("succeeded", 0), ("failed", 1), ("cancelled", 1), ("expired", 1)])
def test_the_exit_code_tells_how_the_task_ended(server: ScriptedServer, run: Run, status: str, code: int) -> None:
    server.play(Answer(body=task_document(status)))

    assert run("watch", TASK_ID).exit_code == code


def test_submit_and_wait_ends_with_the_result(server: ScriptedServer, run: Run) -> None:
    running = task_document("running", progress={"current": 1, "total": 2, "message": "rows"})
    server.play(accepted(), Answer(body=running), Answer(body=task_document(result={"words": 2})))

    result = run("submit", "data_processing", "--wait")

    assert result.exit_code == 0
    assert '"words": 2' in result.stdout
    assert "running: 1/2 rows" in result.stderr


def test_json_is_one_document_a_line_and_the_last_is_final(server: ScriptedServer, run: Run) -> None:
    server.play(accepted(), Answer(body=task_document("running")), Answer(body=task_document(result={"words": 2})))

    result = run("submit", "data_processing", "--wait", "--json")

    documents = [json.loads(line) for line in result.stdout.splitlines()]
    assert [document["status"] for document in documents] == ["queued", "running", "succeeded"]
    assert result.stderr == ""


def test_watching_no_longer_than_asked_has_its_own_exit_code(server: ScriptedServer, run: Run) -> None:
    server.play(Answer(body=task_document("running")))

    result = run("watch", TASK_ID, "--for", "0.2")

    assert result.exit_code == 5
    assert "still running after 0.2 s" in result.stderr


# Read and act


def test_list_shows_a_row_for_each_task(server: ScriptedServer, run: Run) -> None:
    server.play(Answer(body={"data": [task_document("failed"), task_document()], "has_more": False}))

    result = run("list", "--status", "failed", "--type", "own", "--after", "2026-01-01T00:00:00Z", "--limit", "7")

    lines = result.stdout.splitlines()
    assert result.exit_code == 0, result.stderr
    assert [line.split()[:3] for line in lines[1:]] == [
        [TASK_ID, "data_processing", "failed"],
        [TASK_ID, "data_processing", "succeeded"],
    ]
    assert server.requests[0].query == {
        "status": ["failed"],
        "task_type": ["own"],
        "created_after": ["2026-01-01T00:00:00.000Z"],
        "limit": ["7"],
    }


def test_get_shows_every_member_whatever_the_status(server: ScriptedServer, run: Run) -> None:
    error = {"code": "smtp_refused", "message": "550 no", "retryable": False}
    server.play(Answer(body=task_document("failed", error=error, tags=["a"], parameters={"to": "x"})))

    result = run("get", TASK_ID)

    assert result.exit_code == 0
    assert all(part in result.stdout for part in (TASK_ID, "failed", "smtp_refused: 550 no", '"to": "x"'))


def test_json_keeps_what_a_later_version_adds(server: ScriptedServer, run: Run) -> None:
    server.play(Answer(body=task_document(colour="rouge é")))

    result = run("get", TASK_ID, "--json")

    assert json.loads(result.stdout)["colour"] == "rouge é"
    assert result.stdout.isascii()


def test_retry_replaces_parameters_only_when_given(server: ScriptedServer, run: Run) -> None:
    server.play(accepted())

    run("retry", TASK_ID)
    run("retry", TASK_ID, "-p", "data=y")

    assert [request.json for request in server.requests] == [{}, {"parameters": {"data": "y"}}]


def test_retry_and_wait_watches_the_new_task(server: ScriptedServer, run: Run) -> None:
    server.play(accepted(retried_from="old"), Answer(body=task_document("failed")))

    assert run("retry", "old", "--wait").exit_code == 1
    assert server.asked == ["POST /api/tasks/old/retry", f"GET {TASK_PATH}"]


@pytest.mark.parametrize(("status", "said"), [(200, "cancelled\n"), (202, "running, and asked to stop\n")])
def test_cancel_says_what_became_of_it(server: ScriptedServer, run: Run, status: int, said: str) -> None:
    server.play(Answer(status, task_document("cancelled")))

    assert run("cancel", TASK_ID).stdout == said
    assert server.asked == [f"DELETE {TASK_PATH}"]


@pytest.mark.parametrize("action", ["pause", "resume"])
def test_a_queue_is_paused_or_resumed_and_then_shown(server: ScriptedServer, run: Run, action: str) -> None:
    queue = {"name": "low_priority", "depth": 3, "unacknowledged": None, "consumers": 1, "oldest_age_s": 2.5}
    view = {**queue, "paused": action == "pause"}
    server.play(Answer(body=view), Answer(body={"data": [view]}))

    result = run("queues", f"--{action}", "low_priority")

    said = ["paused"] if action == "pause" else []
    assert server.asked == [f"PUT /api/queues/low_priority/{action}", "GET /api/queues"]
    assert result.stdout.splitlines()[1].split() == ["low_priority", "3", "1", "2", "s", *said]


def test_workers_are_shown_with_whatever_is_known_of_them(server: ScriptedServer, run: Run) -> None:
    server.play(Answer(body={"data": [{"name": "high@vm", "queues": ["high_priority"], "concurrency": 2}]}))

    result = run("workers")

    assert result.stdout.splitlines()[1].split() == ["high@vm", '["high_priority"]', "2"]


# Failures


@pytest.mark.parametrize("status", [401, 404, 409, 422])
def test_a_refusal_exits_with_3_and_says_why(server: ScriptedServer, run: Run, status: int) -> None:
    server.play(problem(status, "some_code", errors=[{"pointer": "/parameters/to", "detail": "expected an address"}]))

    result = run("submit", "email_sending")

    assert result.exit_code == 3
    assert f"Error: about some_code ({status} some_code)\n  /parameters/to: expected an address" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    "answer", [problem(503, "broker_unavailable", "9", outcome="unknown"), problem(500, "internal")]
)
def test_an_unavailable_service_exits_with_4(server: ScriptedServer, run: Run, answer: Answer) -> None:
    server.play(answer)

    assert run("submit", "own", "--timeout", "1").exit_code == 4


def test_an_uncertain_submission_names_the_key_that_makes_the_next_one_safe(server: ScriptedServer, run: Run) -> None:
    server.play(problem(503, "broker_unavailable", "9", outcome="unknown"))

    result = run("submit", "own", "--timeout", "1")

    assert f"--idempotency-key {server.requests[0].headers['Idempotency-Key']}" in result.stderr


def test_a_server_that_is_down_is_named_once_with_the_way_out(run: Run) -> None:
    result = run("get", TASK_ID, "--url", "http://127.0.0.1:1", "--timeout", "0.5")

    assert result.exit_code == 4
    assert result.stderr.count("trying again") == 1
    assert "http://127.0.0.1:1 cannot be reached: Connection refused. Is it running there?" in result.stderr


def test_another_kind_of_server_is_noticed(server: ScriptedServer, run: Run) -> None:
    server.play(Answer(404, b"<html>", {"Content-Type": "text/html"}))

    result = run("list")

    assert result.exit_code == 4
    assert "is the URL right?" in result.stderr


# The key


def test_the_key_comes_from_the_environment_or_wins_from_a_file(
    server: ScriptedServer, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("from-file\n")
    server.play(Answer(body=task_document()))

    run("get", TASK_ID, env={"TASKS_API_KEY": "from-env"})
    run("get", TASK_ID, env={"TASKS_API_KEY": "from-env", "TASKS_API_KEY_FILE": str(tmp_path / "key")})

    assert [one.headers["Authorization"] for one in server.requests] == ["Bearer from-env", "Bearer from-file"]


def test_the_key_is_never_shown(server: ScriptedServer, run: Run) -> None:
    server.play(problem(401, "key_invalid"))

    result = run("get", TASK_ID, env={"TASKS_API_KEY": "hush-hush"})

    assert "TASKS_API_KEY" in result.stderr
    assert "hush" not in result.output


# What a person sees


def test_a_strangers_text_does_not_drive_the_terminal(server: ScriptedServer, run: Run) -> None:
    error = {"code": "internal", "message": "\x1b]0;owned\x07 [red]x[/red] \u202e\x9b2J \ud800", "retryable": False}
    server.play(Answer(body=task_document("failed", error=error)))

    shown = run("get", TASK_ID).stdout

    assert not any(one in shown for one in "\x1b\x07\u202e\x9b\ud800")
    assert "[red]x[/red]" in shown


def test_plain_text_stays_as_it_is() -> None:
    assert plain("Grüße, 世界\nzwei") == "Grüße, 世界\nzwei"


def test_a_terminal_gets_colour_and_a_bar_and_ends_with_the_result(server: ScriptedServer) -> None:
    running = task_document("running", progress={"current": 30, "total": 100, "message": "rows"})
    server.play(
        Answer(body=running), Answer(body=running, holds_s=0.3), Answer(body=task_document(result={"words": 2}))
    )

    code, screen = on_a_terminal("watch", TASK_ID, url=server.url)

    assert code == 0
    assert "\x1b[" in screen
    assert "30/100" in screen
    assert '"words": 2' in screen


def test_a_terminal_gets_no_bar_when_json_is_asked_for(server: ScriptedServer) -> None:
    server.play(Answer(body=task_document("running")), Answer(body=task_document()))

    _, screen = on_a_terminal("watch", TASK_ID, "--json", url=server.url)

    assert [json.loads(line)["status"] for line in screen.splitlines()] == ["running", "succeeded"]


def on_a_terminal(*arguments: str, url: str) -> tuple[int, str]:
    """The command with a terminal of its own: its exit code and all that it wrote there."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TASKS_URL": url, "TERM": "xterm-256color", "COLUMNS": "120"}
    command = [sys.executable, "-m", "taskservice", *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=ROOT) as process:
        os.close(theirs)
        written = b"".join(iter(lambda: _read(ours), b""))
        code = process.wait(timeout=30)
    os.close(ours)
    return code, written.decode()


def _read(terminal: int) -> bytes:
    """Nothing at its end, which Linux reports as an error."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""
