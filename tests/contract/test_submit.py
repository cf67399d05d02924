"""API.md, "Submit" and its first lines: what is accepted, what is refused, and what a 202 is worth.

Each docstring quotes the clause that the test shows; "…" stands between parts of one.
"""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook

from taskservice.records.script import connect
from taskservice.records.webhook_secrets import WebhookSecrets
from tests.contract.client import PATIENCE_S, Client, pointers, problem
from tests.support.receiver import receiving
from tests.support.service import Service
from tests.support.waiting import wait_until

EXAMPLE = {"task_type": "data_processing", "priority": "high", "parameters": {"data": "test data"}, "delay": 0}
UNKNOWN_MEMBERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "submission": ("/api/tasks", {"task_type": "sleep", "color": "red"}, "/color"),
    "parameters": ("/api/tasks", {"task_type": "sleep", "parameters": {"speed": 1}}, "/parameters/speed"),
    "callback": (
        "/api/tasks",
        {"task_type": "sleep", "callback": {"url": "https://example.com/", "events": ["failed"], "secret": "x"}},
        "/callback/secret",
    ),
    "batch": ("/api/tasks/batch", {"tasks": [{"task_type": "sleep"}], "name": "x"}, "/name"),
    "bulk": ("/api/tasks/bulk", {"action": "cancel", "task_ids": ["x"], "force": True}, "/force"),
    "filter": ("/api/tasks/bulk", {"action": "cancel", "filter": {"color": "red"}}, "/filter/color"),
    "query": ("/api/tasks?dryrun=true", {"task_type": "sleep"}, "/dryrun"),
}


def late_by(instant: str, earlier: str) -> float:
    return (datetime.fromisoformat(instant) - datetime.fromisoformat(earlier)).total_seconds()


@pytest.mark.parametrize("where", UNKNOWN_MEMBERS)
def test_members_nobody_defined_are_refused(client: Client, where: str) -> None:
    """Members nobody defined are refused (422), never ignored."""
    path, body, pointer = UNKNOWN_MEMBERS[where]

    assert pointers(client.post(path, json=body)) == [pointer]


def test_the_example_is_accepted(client: Client) -> None:
    """POST /api/tasks … {"task_type": "data_processing", "priority": "high", "parameters": {"data": "test data"},
    "delay": 0}
    """
    answer = client.post("/api/tasks", json=EXAMPLE)
    task = client.finished(answer.json()["task_id"])

    assert answer.status_code == 202
    assert (task["status"], task["result"]["words"]) == ("succeeded", 2)


def test_the_answer_promises_word_by_word(client: Client) -> None:
    """**202** with `Location: /api/tasks/{task_id}` and … {"task_id": "…", "state": "PENDING", "status": "queued",
    "task_type": "data_processing", "priority": "high", "queue": "high_priority", "created_at": "…", "due_at": "…",
    "message": "…", "links": {"self": "/api/tasks/…", "events": "…", "cancel": "…"}}
    """
    answer = client.post("/api/tasks", json=EXAMPLE)
    promise = answer.json()
    path = f"/api/tasks/{promise['task_id']}"
    named = {"state": "PENDING", "status": "queued", "task_type": "data_processing", "priority": "high"}

    assert (answer.status_code, answer.headers["Location"]) == (202, path)
    assert promise.items() >= {**named, "queue": "high_priority"}.items()
    assert promise["created_at"] == promise["due_at"]
    assert promise["message"]
    assert (promise["links"]["self"], promise["links"]["cancel"]) == (path, path)
    assert client.get(promise["links"]["events"]).headers["Content-Type"].startswith("text/event-stream")


@pytest.mark.parametrize("body", [{}, {"task_type": "no_such_type"}, {"task_type": None}, {"task_type": 1}])
def test_task_type_is_required_and_registered(client: Client, body: dict[str, Any]) -> None:
    """task_type | required; a registered type"""
    assert pointers(client.post("/api/tasks", json=body)) == ["/task_type"]


def test_task_types_are_listed_with_schemas_and_limits(client: Client) -> None:
    """`GET /api/task-types` lists them with their JSON Schemas and limits"""
    types = {one["name"]: one for one in client.document("/api/task-types")["data"]}

    assert types.keys() >= {"data_processing", "email_sending", "file_processing"}
    for one in types.values():
        assert one["parameters_schema"]["type"] == "object"
        assert (type(one["max_retries"]), type(one["time_limit_s"])) == (int, int)
    assert types["short_sleep"]["rate_limit"] == {"count": 2, "period_s": 1.0}
    assert types["sleep"]["rate_limit"] is None


def test_priority_is_one_of_three(client: Client) -> None:
    """priority | `high`, `normal` (default), `low`; anything else is refused, never mapped"""
    queues = {word: client.submit(priority=word).json()["queue"] for word in ("high", "normal", "low")}

    assert queues == {"high": "high_priority", "normal": "normal_priority", "low": "low_priority"}
    assert client.submit().json()["priority"] == "normal"
    others: list[object] = ["HIGH", "urgent", "", 1, None, ["high"]]
    for other in others:
        assert pointers(client.submit(priority=other)) == ["/priority"]


def test_parameters_are_an_object_and_empty_by_default(client: Client) -> None:
    """parameters | object, default `{}`"""
    assert client.task(client.submitted())["parameters"] == {}
    others: list[Any] = [[], "x", 1]
    for other in others:
        assert pointers(client.submit(other)) == ["/parameters"]


def test_parameters_are_validated_before_anything_is_stored(client: Client) -> None:
    """validated against the type's schema before anything is stored"""
    tag = uuid.uuid4().hex

    refused = client.submit({"seconds": "long"}, tags=[tag])

    assert pointers(refused) == ["/parameters/seconds"]
    assert client.document("/api/tasks", params={"tag": tag})["data"] == []


@pytest.mark.parametrize("delay", [-1, -0.001, "1", True, [1]])
def test_delay_is_no_less_than_nothing(client: Client, delay: object) -> None:
    """delay | seconds >= 0"""
    assert pointers(client.submit(delay=delay)) == ["/delay"]


def test_delay_takes_fractions_and_is_0_by_default(client: Client) -> None:
    """fractions allowed, default 0"""
    at_once, later = client.submit().json(), client.submit(delay=1.25).json()
    task = client.finished(later["task_id"])

    assert late_by(at_once["due_at"], at_once["created_at"]) == 0
    assert late_by(later["due_at"], later["created_at"]) == 1.25
    assert late_by(task["started_at"], task["created_at"]) >= 1.25


def test_delay_and_run_at_exclude_each_other(client: Client) -> None:
    """not together with `run_at`"""
    answer = client.submit(delay=1, run_at="2030-01-01T00:00:00Z")

    assert pointers(answer) == ["/run_at"]


def test_run_at_is_an_instant(client: Client) -> None:
    """run_at | RFC 3339 instant"""
    moment = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="milliseconds")

    answer = client.submit(run_at=moment).json()
    client.cancel(answer["task_id"])

    assert (answer["status"], late_by(answer["due_at"], moment)) == ("scheduled", 0)
    for other in ("tomorrow", "2030-01-01", "2030-01-01T00:00:00", 1_900_000_000, "1900000000"):
        assert pointers(client.submit(run_at=other)) == ["/run_at"]


def test_run_at_in_the_past_means_now(client: Client) -> None:
    """in the past means now"""
    answer = client.submit(run_at="2001-01-01T00:00:00+02:00").json()

    assert answer["status"] == "queued"
    assert answer["due_at"] == answer["created_at"]
    assert client.finished(answer["task_id"])["status"] == "succeeded"


def test_a_task_that_does_not_start_in_time_expires(client: Client) -> None:
    """expires_in | must start within this many seconds after it is due, else `expired`"""
    with client.paused():
        late = client.submitted(priority="low", expires_in=0.5)
        task = client.finished(late)
    in_time = client.run(expires_in=3600)

    assert (task["status"], task["attempt"], task["expires_in"]) == ("expired", 0, 0.5)
    assert in_time["status"] == "succeeded"
    assert pointers(client.submit(expires_in=0)) == ["/expires_in"]


def test_max_retries_counts_the_attempts_after_the_first(client: Client) -> None:
    """max_retries | 0-20, default the type's own (3)"""
    attempts = {retries: client.task(client.submitted(max_retries=retries))["max_attempts"] for retries in (0, 20)}

    assert attempts == {0: 1, 20: 21}
    assert client.task(client.submitted())["max_attempts"] == 4
    for other in (-1, 21, 1.5, "3"):
        assert pointers(client.submit(max_retries=other)) == ["/max_retries"]


def test_tags_are_few_and_short(client: Client) -> None:
    """tags | up to 10 strings of up to 64 characters"""
    tags = [f"{number}".rjust(64, "ü") for number in range(10)]

    assert client.task(client.submitted(tags=tags))["tags"] == tags
    assert pointers(client.submit(tags=[*tags, "one more"])) == ["/tags"]
    assert pointers(client.submit(tags=["x" * 65])) == ["/tags/0"]
    assert pointers(client.submit(tags=["x", 1])) == ["/tags/1"]


def test_metadata_is_echoed(client: Client) -> None:
    """`metadata`: small object echoed back"""
    metadata = {"order": 17, "nested": {"list": [1, None, "ü"]}}

    assert client.task(client.submitted(metadata=metadata))["metadata"] == metadata
    assert pointers(client.submit(metadata={"x": "x" * 10_000})) == ["/metadata"]
    assert pointers(client.submit(metadata=["x"])) == ["/metadata"]


def test_a_callback_is_a_signed_webhook(client: Client, service: Service) -> None:
    """callback | `{"url": …, "events": ["succeeded", "failed", …]}`: a signed webhook (Standard Webhooks)"""
    with receiving() as receiver:
        url = receiver.url()
        done = client.run(callback={"url": url, "events": ["succeeded", "failed"]})
        failed = client.run(
            {"fail_attempts": 1, "permanent": True}, callback={"url": url, "events": ["succeeded", "failed"]}
        )
        wait_until(lambda: len(receiver.received) == 2, PATIENCE_S, "both webhooks arrived")
    (secret,) = WebhookSecrets(connect(service.system.result_backend)).of(None)
    bodies = [Webhook(secret).verify(one.body, one.headers) for one in receiver.received]

    told = {(body["type"], body["data"]["task_id"]) for body in bodies}
    assert told == {("task.succeeded", done["task_id"]), ("task.failed", failed["task_id"])}


def test_the_same_key_and_body_give_the_same_answer(client: Client) -> None:
    """same key and same body within 24 h gives the original 202 body and `Idempotency-Replayed: true`"""
    key = uuid.uuid4().hex

    first, second = (client.submit({"mark": "x"}, key=key) for _ in range(2))

    assert (first.status_code, second.status_code) == (202, 202)
    assert second.text == first.text
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.headers["Location"] == first.headers["Location"]


def test_the_same_key_with_another_body_is_422(client: Client) -> None:
    """same key with another body 422"""
    key = uuid.uuid4().hex
    client.submit({"mark": "x"}, key=key)

    problem(client.submit({"mark": "y"}, key=key), 422, "idempotency_key_reused")


def test_a_key_has_up_to_255_characters(client: Client) -> None:
    """Header `Idempotency-Key` (up to 255 characters)"""
    longest = uuid.uuid4().hex.ljust(255, "x")

    assert client.submit(key=longest).status_code == 202
    assert client.submit(key=f"{longest}x").status_code == 422


def test_an_accepted_task_can_be_read_at_once(client: Client) -> None:
    """A 202 is a promise: … the task's record can be read."""
    for _ in range(20):
        answer = client.submit()

        assert answer.status_code == 202
        assert client.get(answer.headers["Location"]).status_code == 200


def test_without_a_broker_a_task_is_refused_within_5_s(brokerless: Client) -> None:
    """What cannot be promised gets another answer within 5 s: 503 with `"outcome": "refused"` (it will not run)"""
    began = time.monotonic()
    answer = brokerless.submit(task_type="data_processing", parameters={"data": "x"})
    took_s = time.monotonic() - began

    assert problem(answer, 503, "broker_unavailable")["outcome"] == "refused"
    assert took_s < 5


def test_the_answer_says_queued_or_scheduled(client: Client) -> None:
    """The 202 body says queued or scheduled however fast a worker was."""
    said = {client.submit(priority="high").json()["status"] for _ in range(20)}
    delayed = client.submit(delay=1).json()

    assert said == {"queued"}
    assert (delayed["status"], delayed["state"]) == ("scheduled", "PENDING")


@pytest.mark.parametrize(
    ("task_type", "parameters"),
    [
        ("file_processing", {"filename": "never-uploaded.txt"}),
        ("data_processing", {"file": "never-uploaded.csv"}),
        ("data_processing", {"data": [{"a": 1}], "query": "select nothing from nowhere"}),
    ],
)
def test_files_and_sql_are_looked_at_when_the_task_runs(
    client: Client, task_type: str, parameters: dict[str, Any]
) -> None:
    """Whether a file exists and what its SQL does is checked when the task runs, so those are 202, then `failed`."""
    answer = client.submit(parameters, task_type=task_type)

    assert answer.status_code == 202
    assert client.finished(answer.json()["task_id"])["status"] == "failed"


def test_a_delay_is_at_most_30_days(client: Client) -> None:
    """`delay` is at most 30 days."""
    longest = client.submit(delay=30 * 86_400)
    client.cancel(longest.json()["task_id"])
    too_far = (datetime.now(UTC) + timedelta(days=30, minutes=1)).isoformat()

    assert longest.status_code == 202
    assert pointers(client.submit(delay=30 * 86_400 + 1)) == ["/delay"]
    assert pointers(client.submit(run_at=too_far)) == ["/run_at"]


@pytest.mark.parametrize("value", ["1" + "0" * 30, "1" * 5000, "1e999", r'"a\u0000b"', r'"\ud800"'])
def test_values_that_nothing_can_hold_are_422(client: Client, value: str) -> None:
    """Huge integers, NUL and lone surrogates: 422."""
    body = f'{{"task_type": "data_processing", "parameters": {{"data": {{"x": {value}}}}}}}'

    answer = client.post("/api/tasks", data=body, headers={"Content-Type": "application/json"})

    assert pointers(answer) == ["/parameters/data/x"]


def test_a_batch_answers_for_each_submission(client: Client) -> None:
    """`POST /api/tasks/batch` `{"tasks": [up to 1000 submissions]}` … -> 202 `{batch_id, accepted, rejected, results:
    [{index, task_id} | {index, error}]}`
    """
    tasks = [{"task_type": "sleep"}, {"task_type": "no_such_type"}, {"task_type": "sleep", "priority": "high"}]

    answer = client.post("/api/tasks/batch", json={"tasks": tasks})
    batch = answer.json()

    assert (answer.status_code, batch["accepted"], batch["rejected"]) == (202, 2, 1)
    assert [result["index"] for result in batch["results"]] == [0, 1, 2]
    assert [("task_id" in result, "error" in result) for result in batch["results"]] == [
        (True, False), (False, True), (True, False),
    ]  # fmt: skip
    assert client.finished(batch["results"][2]["task_id"])["status"] == "succeeded"


def test_a_batch_has_up_to_1000_submissions(client: Client) -> None:
    """up to 1000 submissions"""
    tasks: list[dict[str, Any]] = [{"task_type": "sleep"}, *({"task_type": "no_such_type"} for _ in range(999))]

    full = client.post("/api/tasks/batch", json={"tasks": tasks})

    assert (full.status_code, full.json()["rejected"]) == (202, 999)
    assert pointers(client.post("/api/tasks/batch", json={"tasks": [*tasks, {"task_type": "sleep"}]})) == ["/tasks"]


def test_a_batch_has_up_to_10_mebibytes(client: Client) -> None:
    """(body up to 10 MiB)"""
    tasks = [{"task_type": "data_processing", "parameters": {"data": "x" * 1_000_000}, "delay": 3600}] * 10

    full = client.post("/api/tasks/batch", json={"tasks": tasks})
    for result in full.json()["results"]:
        client.cancel(result["task_id"])

    assert (full.status_code, full.json()["accepted"]) == (202, 10)
    problem(client.post("/api/tasks/batch", json={"tasks": [*tasks, *tasks[:1]]}), 413, "body_too_large")


def test_a_batch_is_counted_by_status(client: Client) -> None:
    """`GET /api/batches/{batch_id}` counts by status."""
    tasks = [{"task_type": "sleep"}, {"task_type": "sleep", "parameters": {"fail_attempts": 1, "permanent": True}}]
    batch = client.post("/api/tasks/batch", json={"tasks": [*tasks, {"task_type": "sleep", "delay": 3600}]}).json()
    for result in batch["results"][:2]:
        client.finished(result["task_id"])

    counts = client.document(f"/api/batches/{batch['batch_id']}")["counts"]
    client.cancel(batch["results"][2]["task_id"])

    assert {status: count for status, count in counts.items() if count} == {"succeeded": 1, "failed": 1, "scheduled": 1}
    problem(client.get(f"/api/batches/{uuid.uuid4()}"), 404)


def test_a_dry_run_stores_nothing(client: Client) -> None:
    """`POST /api/tasks?dry_run=true` validates, shows queue and limits, stores nothing (200)."""
    tag = uuid.uuid4().hex

    answer = client.post("/api/tasks?dry_run=true", json={"task_type": "sleep", "priority": "low", "tags": [tag]})
    shown = answer.json()

    assert (answer.status_code, shown["queue"]) == (200, "low_priority")
    assert (shown["max_attempts"], shown["time_limit_s"], shown["rate_limit"]) == (4, 20, None)
    assert "task_id" not in shown
    assert client.document("/api/tasks", params={"tag": tag})["data"] == []
    assert pointers(client.post("/api/tasks?dry_run=true", json={"task_type": "sleep", "delay": -1})) == ["/delay"]
