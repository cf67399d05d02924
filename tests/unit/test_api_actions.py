"""Cancel, retry and run held to API.md, one task at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from taskservice.model import Attempt, ErrorInfo, Status, now
from tests.support.api import UNKNOWN_ID, Api, assert_problem, open_api, pointers

FINAL = [status for status in Status if status.is_final]
NOT_FINAL = [status for status in Status if not status.is_final]
BUSY = ErrorInfo("smtp_unavailable", "busy", retryable=True)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with open_api(tmp_path) as api:
        yield api


def task_in(api: Api, status: Status, **members: Any) -> str:
    """The id of a task that has come to this status; it has made one attempt unless that is still to come."""
    record = api.records.kept[api.submitted(**members)]
    if status not in (Status.SCHEDULED, Status.QUEUED):
        record = replace(record, attempts=(Attempt(1, "worker-a", now(), now(), BUSY),))
    if status in (Status.SCHEDULED, Status.RETRYING):
        record = replace(record, due_at=now() + timedelta(seconds=60))
    api.broker.published.clear()
    api.broker.attempts.clear()
    return api.records.put(replace(record, status=status, finished_at=now() if status.is_final else None))


# Cancel


@pytest.mark.parametrize("status", [Status.SCHEDULED, Status.QUEUED, Status.RETRYING])
def test_a_task_that_waits_is_cancelled_at_once(api: Api, status: Status) -> None:
    task_id = task_in(api, status)

    response = api.client.delete(f"/api/tasks/{task_id}")

    assert response.status_code == 200
    assert (response.get_json()["status"], response.get_json()["state"]) == ("cancelled", "REVOKED")
    assert "Retry-After" not in response.headers


def test_a_task_that_runs_is_asked_to_stop(api: Api) -> None:
    task_id = task_in(api, Status.RUNNING)

    response = api.client.delete(f"/api/tasks/{task_id}")

    assert response.status_code == 202
    assert (response.get_json()["status"], response.get_json()["cancel_requested"]) == ("running", True)
    assert response.headers["Retry-After"] == "1"


@pytest.mark.parametrize("status", FINAL)
def test_a_task_that_has_ended_cannot_be_cancelled(api: Api, status: Status) -> None:
    assert_problem(api.client.delete(f"/api/tasks/{task_in(api, status)}"), 409, "task_final")


@pytest.mark.parametrize(("method", "action"), [("DELETE", ""), ("POST", "/retry"), ("POST", "/run")])
@pytest.mark.parametrize("task_id", [UNKNOWN_ID, "nonsense", "%00"])
def test_an_unknown_or_malformed_id_is_404(api: Api, method: str, action: str, task_id: str) -> None:
    response = api.client.open(f"/api/tasks/{task_id}{action}", method=method)

    assert_problem(response, 404, "task_not_found")


@pytest.mark.parametrize(("method", "action"), [("DELETE", ""), ("POST", "/retry"), ("POST", "/run")])
def test_an_option_nobody_defined_is_refused_not_ignored(api: Api, method: str, action: str) -> None:
    response = api.client.open(f"/api/tasks/{api.submitted()}{action}?force=true", method=method)

    assert pointers(assert_problem(response, 422, "invalid_request")) == ["/force"]


def test_cancelling_without_a_store_is_503(api: Api) -> None:
    task_id = api.submitted()
    api.records.is_down = True

    assert "outcome" not in assert_problem(api.client.delete(f"/api/tasks/{task_id}"), 503, "store_unavailable")


# Retry


@pytest.mark.parametrize("status", FINAL)
def test_a_task_that_has_ended_is_repeated_as_a_new_one(api: Api, status: Status) -> None:
    said = {"priority": "high", "tags": ["a"], "metadata": {"b": 1}, "max_retries": 7, "expires_in": 60.0, "delay": 5}
    task_id = task_in(api, status, **said)

    response = api.client.post(f"/api/tasks/{task_id}/retry")

    accepted = response.get_json()
    assert response.status_code == 202
    assert response.headers["Location"] == accepted["links"]["self"]
    assert accepted["task_id"] != task_id
    task = api.client.get(accepted["links"]["self"]).get_json()
    assert (task["retried_from"], task["status"], task["parameters"]) == (task_id, "queued", {"data": "test data"})
    assert (task["priority"], task["tags"], task["metadata"]) == ("high", ["a"], {"b": 1})
    assert (task["max_attempts"], task["expires_in"], task["attempt"]) == (8, 60.0, 0)


@pytest.mark.parametrize("status", NOT_FINAL)
def test_a_task_that_has_not_ended_cannot_be_repeated(api: Api, status: Status) -> None:
    response = api.client.post(f"/api/tasks/{task_in(api, status)}/retry")

    assert_problem(response, 409, "task_not_final")
    assert api.broker.published == []


def test_a_retry_may_bring_other_parameters(api: Api) -> None:
    task_id = task_in(api, Status.FAILED)

    response = api.client.post(f"/api/tasks/{task_id}/retry", json={"parameters": {"data": [1, 2]}})

    assert response.status_code == 202
    assert [submission.parameters for submission in api.broker.published] == [{"data": [1, 2]}]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"parameters": {"data": 5}}, "/parameters/data"),
        ({"parameters": {"data": "x", "colour": "red"}}, "/parameters/colour"),
        ({"parameters": {}}, ""),
        ({"priority": "high"}, "/priority"),
        ([], ""),
    ],
)
def test_what_a_retry_brings_is_validated(api: Api, body: object, pointer: str) -> None:
    response = api.client.post(f"/api/tasks/{task_in(api, Status.FAILED)}/retry", json=body)

    assert any(one.startswith(pointer) for one in pointers(assert_problem(response, 422, "invalid_request")))
    assert api.broker.published == []


def test_a_task_whose_type_is_gone_cannot_be_repeated(api: Api) -> None:
    task_id = task_in(api, Status.FAILED)
    record = api.records.kept[task_id]
    api.records.put(replace(record, submission=replace(record.submission, task_type="no_more")))

    document = assert_problem(api.client.post(f"/api/tasks/{task_id}/retry"), 409, "task_type_gone")

    assert "'no_more' is no longer registered" in document["detail"]


def test_a_retry_the_broker_did_not_take_is_answered_as_refused(api: Api) -> None:
    task_id = task_in(api, Status.FAILED)
    api.broker.is_down = True

    response = api.client.post(f"/api/tasks/{task_id}/retry")

    assert assert_problem(response, 503, "broker_unavailable")["outcome"] == "refused"


# Run


@pytest.mark.parametrize(("status", "attempt", "then"), [("scheduled", 1, "queued"), ("retrying", 2, "retrying")])
def test_a_task_that_waits_for_its_time_runs_now(api: Api, status: str, attempt: int, then: str) -> None:
    task_id = task_in(api, Status(status), delay=3600)

    response = api.client.post(f"/api/tasks/{task_id}/run")

    (published,) = api.broker.published
    assert response.status_code == 202
    assert response.get_json()["status"] == then
    assert response.headers["Retry-After"] == "1"
    assert (published.task_id, api.broker.attempts) == (task_id, [attempt])
    assert published.due_at <= now()


def test_a_task_whose_worker_was_lost_runs_now_as_the_same_attempt(api: Api) -> None:
    task_id = task_in(api, Status.RETRYING)
    api.records.put(replace(api.records.kept[task_id], repeats_attempt=True))

    response = api.client.post(f"/api/tasks/{task_id}/run")

    assert (response.status_code, api.broker.attempts) == (202, [1])


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING, *FINAL])
def test_only_a_task_that_waits_for_its_time_can_be_run(api: Api, status: Status) -> None:
    response = api.client.post(f"/api/tasks/{task_in(api, status)}/run")

    assert_problem(response, 409, "task_not_waiting")
    assert api.broker.published == []


def test_a_task_that_could_not_be_published_again_keeps_its_time(api: Api) -> None:
    task_id = task_in(api, Status.SCHEDULED)
    api.broker.is_down = True

    response = api.client.post(f"/api/tasks/{task_id}/run")

    assert assert_problem(response, 503, "broker_unavailable")["outcome"] == "unknown"
    assert api.records.kept[task_id].status is Status.SCHEDULED


def test_a_run_with_a_key_is_published_once(api: Api) -> None:
    task_id = task_in(api, Status.SCHEDULED, delay=3600)

    first, second = (run(api, task_id, key="k") for _ in range(2))

    assert (first.status_code, second.status_code) == (202, 202)
    assert second.get_json() == first.get_json()
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(api.broker.published) == 1


def test_a_run_that_ended_unknown_is_made_sure_by_its_repetition(api: Api) -> None:
    task_id = task_in(api, Status.SCHEDULED, delay=3600)
    api.broker.is_down = True
    unknown = assert_problem(run(api, task_id, key="k"), 503, "broker_unavailable")
    api.broker.is_down = False
    api.reservations.forget_flights()
    record = api.records.kept[task_id]
    api.records.put(replace(record, status=Status.SUCCEEDED))  # the message had arrived

    repeated = run(api, task_id, key="k")

    assert unknown["outcome"] == "unknown"
    assert (repeated.status_code, repeated.get_json()["status"]) == (202, "succeeded")
    assert api.broker.published == []


def test_a_run_that_was_refused_leaves_its_key_free(api: Api) -> None:
    task_id = task_in(api, Status.RUNNING)
    assert_problem(run(api, task_id, key="k"), 409, "task_not_waiting")
    api.records.put(replace(api.records.kept[task_id], status=Status.RETRYING))

    response = run(api, task_id, key="k")

    assert response.status_code == 202
    assert [one.task_id for one in api.broker.published] == [task_id]


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.EXPIRED])
def test_an_unknown_run_of_a_task_that_never_started_is_not_promised(api: Api, status: Status) -> None:
    task_id = task_in(api, Status.SCHEDULED)
    api.broker.is_down = True
    unknown = assert_problem(run(api, task_id, key="k"), 503, "broker_unavailable")
    api.broker.is_down = False
    api.reservations.forget_flights()
    api.records.put(replace(api.records.kept[task_id], status=status))

    repeated = run(api, task_id, key="k")

    assert unknown["outcome"] == "unknown"
    assert_problem(repeated, 409, "task_not_waiting")


def test_a_run_that_was_refused_is_refused_again(api: Api) -> None:
    task_id = task_in(api, Status.SUCCEEDED)

    answers = [run(api, task_id, key="k") for _ in range(2)]

    for answer in answers:
        assert_problem(answer, 409, "task_not_waiting")


@pytest.mark.parametrize("action", ["retry", "run"])
def test_without_a_store_nothing_is_done_and_a_key_may_have_done_it_before(api: Api, action: str) -> None:
    task_id = task_in(api, Status.SCHEDULED)
    api.records.is_down = True
    url = f"/api/tasks/{task_id}/{action}"

    plain = assert_problem(api.client.post(url), 503, "store_unavailable")
    keyed = assert_problem(api.client.post(url, headers={"Idempotency-Key": "k"}), 503, "store_unavailable")

    assert (plain["outcome"], keyed["outcome"]) == ("refused", "unknown")


def run(api: Api, task_id: str, *, key: str) -> TestResponse:
    return api.client.post(f"/api/tasks/{task_id}/run", headers={"Idempotency-Key": key})
