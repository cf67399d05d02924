"""Reading tasks held to API.md: lists and their pages, waiting, ETags, Retry-After, and a submission tried dry."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from werkzeug.test import TestResponse

from taskservice.api import selection
from taskservice.model import Attempt, Status, now
from tests.support.api import UNKNOWN_ID, Api, assert_problem, open_api, pointers


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with open_api(tmp_path) as api:
        yield api


def listed(api: Api, **query: Any) -> dict[str, Any]:
    response = api.client.get(f"/api/tasks?{urlencode(query, doseq=True)}")
    assert response.status_code == 200, response.text
    page: dict[str, Any] = response.get_json()
    assert page.keys() == {"data", "has_more", "next_cursor"}
    return page


def all_ids(api: Api, **query: Any) -> list[str]:
    """Over all pages."""
    page, found = listed(api, **query), []
    while page["has_more"]:
        found += ids(page)
        page = listed(api, **query, cursor=page["next_cursor"])
    assert page["next_cursor"] is None
    return found + ids(page)


def ids(page: dict[str, Any]) -> list[str]:
    return [task["task_id"] for task in page["data"]]


def change(api: Api, task_id: str, **changes: Any) -> None:
    api.records.put(replace(api.records.kept[task_id], **changes))


def read(api: Api, task_id: str, query: str = "", **headers: str) -> TestResponse:
    return api.client.get(f"/api/tasks/{task_id}{query}", headers=headers)


# List


def test_a_listed_task_reads_as_it_does_by_itself(api: Api) -> None:
    task_id = api.submitted(tags=["a"], metadata={"order": 7})

    assert listed(api)["data"] == [read(api, task_id).get_json()]


def test_nothing_is_an_empty_last_page(api: Api) -> None:
    assert listed(api) == {"data": [], "has_more": False, "next_cursor": None}


def test_pages_follow_one_another_to_the_last(api: Api) -> None:
    submitted = {api.submitted() for _ in range(5)}

    found = all_ids(api, limit=2)

    assert (len(found), set(found)) == (5, submitted)


@pytest.mark.parametrize(
    ("query", "matched"),
    [
        ({"status": "queued"}, {"plain", "low"}),
        ({"status": ["queued", "failed"]}, {"plain", "low", "failed"}),
        ({"state": "FAILURE"}, {"failed"}),
        ({"state": ["FAILURE", "PENDING"], "status": "failed"}, {"failed"}),
        ({"priority": "low"}, {"low"}),
        ({"tag": "a b"}, {"low"}),
        ({"task_type": "email_sending"}, set()),
        ({"created_after": "2020-01-01T00:00:00Z", "status": "failed"}, {"failed"}),
        ({"created_before": "2020-01-01T00:00:00+01:00"}, set()),
    ],
)
def test_every_parameter_given_must_hold(api: Api, query: dict[str, Any], matched: set[str]) -> None:
    named = {"plain": api.submitted(), "low": api.submitted(priority="low", tags=["a b"]), "failed": api.submitted()}
    change(api, named["failed"], status=Status.FAILED)

    assert {name for name, task_id in named.items() if task_id in all_ids(api, **query)} == matched


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "/limit"),
        ("limit=201", "/limit"),
        ("limit=many", "/limit"),
        ("limit=", "/limit"),
        ("limit=1&limit=2", "/limit"),
        ("cursor=", "/cursor"),
        ("cursor=nonsense", "/cursor"),
        ("status=lost", "/status/0"),
        ("status=failed&status=", "/status/1"),
        ("state=LOST", "/state/0"),
        ("state=SUCCESS&status=failed", "/state"),
        ("priority=urgent", "/priority"),
        ("tag=", "/tag"),
        ("task_type=", "/task_type"),
        ("created_after=yesterday", "/created_after"),
        ("created_after=2020-01-01T00:00:00", "/created_after"),
        ("created_after=1700000000", "/created_after"),
        ("created_before=0.5", "/created_before"),
        ("colour=red", "/colour"),
    ],
)
def test_a_query_that_does_not_validate_is_refused_and_named(api: Api, query: str, pointer: str) -> None:
    document = assert_problem(api.client.get(f"/api/tasks?{query}"), 422, "invalid_request")

    assert pointer in pointers(document)


def test_a_page_of_large_tasks_is_shorter_and_misses_none(api: Api) -> None:
    task_ids = [api.submitted(), api.submitted()]
    for task_id in task_ids:
        change(api, task_id, result={"padding": "x" * selection.MAX_PAGE_BYTES})

    first = listed(api)
    second = listed(api, cursor=first["next_cursor"])

    assert (len(ids(first)), first["has_more"], second["has_more"]) == (1, True, False)
    assert {*ids(first), *ids(second)} == set(task_ids)


def test_without_a_store_there_is_no_list(api: Api) -> None:
    api.records.is_down = True

    assert_problem(api.client.get("/api/tasks"), 503, "store_unavailable")


# Wait


def test_a_reader_that_waits_is_answered_when_the_task_ends(api: Api) -> None:
    task_id = api.submitted()
    threading.Timer(0.3, change, (api, task_id), {"status": Status.SUCCEEDED, "result": {"a": 1}}).start()

    assert read(api, task_id, "?wait=20").get_json()["status"] == "succeeded"


def test_a_reader_waits_no_longer_than_it_asked_for(api: Api) -> None:
    task_id = api.submitted()

    assert read(api, task_id, "?wait=0.1").get_json()["status"] == "queued"


@pytest.mark.parametrize("task_id", [UNKNOWN_ID, "nonsense"])
def test_nobody_waits_for_what_does_not_exist(api: Api, task_id: str) -> None:
    assert_problem(read(api, task_id, "?wait=30"), 404, "task_not_found")


@pytest.mark.parametrize("wait", ["-1", "30.5", "nan", "inf", "", "long", "1&wait=2"])
def test_a_wait_is_0_to_30_seconds(api: Api, wait: str) -> None:
    document = assert_problem(read(api, api.submitted(), f"?wait={wait}"), 422, "invalid_request")

    assert pointers(document) == ["/wait"]


# ETag


def test_what_has_not_changed_is_not_sent_again(api: Api) -> None:
    task_id = api.submitted()
    etag = read(api, task_id).headers["ETag"]

    again = read(api, task_id, **{"If-None-Match": f'"other", {etag}'})

    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == etag
    assert again.headers["Cache-Control"] == "no-cache"


def test_what_has_changed_is_sent_with_another_etag(api: Api) -> None:
    task_id = api.submitted()
    etag = read(api, task_id).headers["ETag"]
    change(api, task_id, status=Status.CANCELLED)

    again = read(api, task_id, **{"If-None-Match": etag})

    assert (again.status_code, again.get_json()["status"]) == (200, "cancelled")
    assert again.headers["ETag"] != etag


def test_a_delay_that_is_over_changes_the_etag_although_nothing_was_written(api: Api) -> None:
    task_id = api.submitted(delay=60)
    etag = read(api, task_id).headers["ETag"]
    change(api, task_id, due_at=now())

    assert read(api, task_id, **{"If-None-Match": etag}).status_code == 200


# Retry-After


@pytest.mark.parametrize(("mean_s", "expected_s"), [(None, "1"), (0.2, "1"), (7.5, "8"), (500, "60")])
def test_a_queued_task_is_worth_reading_again_when_one_of_its_type_can_be_done(
    api: Api, mean_s: float | None, expected_s: str
) -> None:
    if mean_s is not None:
        api.run_times.means_s["data_processing"] = mean_s

    assert read(api, api.submitted()).headers["Retry-After"] == expected_s


def test_what_has_run_for_a_while_is_worth_reading_sooner(api: Api) -> None:
    task_id = api.submitted()
    api.run_times.means_s["data_processing"] = 50.0
    started_at = now() - timedelta(seconds=30)
    change(api, task_id, status=Status.RUNNING, attempts=(Attempt(1, "normal@test", started_at),))

    assert read(api, task_id).headers["Retry-After"] in ("19", "20")


# Dry run


def test_a_dry_run_tells_queue_and_limits_and_stores_nothing(api: Api) -> None:
    body = {"task_type": "data_processing", "parameters": {"data": "x"}, "priority": "high", "delay": 60}
    response = api.client.post("/api/tasks?dry_run=true", json=body | {"expires_in": 30, "max_retries": 1})

    found = response.get_json()
    assert response.status_code == 200
    assert (found["queue"], found["max_attempts"], found["parameters"]) == ("high_priority", 2, {"data": "x"})
    assert found["time_limit_s"] > 0
    assert found["rate_limit"] is None
    assert found["due_at"] < found["expires_at"]
    assert (api.broker.published, api.records.kept) == ([], {})


def test_a_dry_run_uses_up_no_key(api: Api) -> None:
    body = {"task_type": "data_processing", "parameters": {"data": "test data"}}
    dry = api.client.post("/api/tasks?dry_run=true", json=body, headers={"Idempotency-Key": "k"})

    assert (dry.status_code, api.submit(key="k").status_code) == (200, 202)


def test_a_dry_run_refuses_what_a_submission_would_be_refused_for(api: Api) -> None:
    response = api.client.post("/api/tasks?dry_run=true", json={"task_type": "no_such_type"})

    assert pointers(assert_problem(response, 422, "invalid_request")) == ["/task_type"]


def test_a_dry_run_that_is_off_submits(api: Api) -> None:
    response = api.client.post(
        "/api/tasks?dry_run=false", json={"task_type": "data_processing", "parameters": {"data": ""}}
    )

    assert response.status_code == 202


@pytest.mark.parametrize("value", ["", "1", "True", "yes", "true&dry_run=false"])
def test_a_dry_run_is_true_or_false(api: Api, value: str) -> None:
    response = api.client.post(f"/api/tasks?dry_run={value}", json={"task_type": "data_processing"})

    assert pointers(assert_problem(response, 422, "invalid_request")) == ["/dry_run"]
    assert api.broker.published == []
