"""Many tasks at once held to API.md: what is matched, what is done, and why the rest is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from taskservice.api.bulk import AT_ONCE
from taskservice.model import Status
from tests.support.api import UNKNOWN_ID, Api, assert_problem, open_api, pointers


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with open_api(tmp_path) as api:
        yield api


def bulk(api: Api, action: str, **members: Any) -> TestResponse:
    return api.client.post("/api/tasks/bulk", json={"action": action, **members})


def outcome(response: TestResponse) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.get_json()
    assert found.keys() == {"matched", "succeeded", "failed", "created"}
    return found


def ended(api: Api, status: Status = Status.FAILED, **members: Any) -> str:
    record = api.records.kept[api.submitted(**members)]
    return api.records.put(replace(record, status=status))


def test_cancelling_by_ids_says_what_became_of_each(api: Api) -> None:
    waits, runs, has_ended = api.submitted(), api.submitted(), ended(api)
    api.records.put(replace(api.records.kept[runs], status=Status.RUNNING))

    found = outcome(bulk(api, "cancel", task_ids=[waits, runs, has_ended, UNKNOWN_ID, "nonsense", waits]))

    assert (found["matched"], found["succeeded"]) == (3, [waits, runs])
    assert found["failed"] == {has_ended: "already_final", UNKNOWN_ID: "task_not_found", "nonsense": "task_not_found"}
    assert api.records.kept[waits].status is Status.CANCELLED
    assert api.records.kept[runs].is_cancel_requested


def test_repeating_by_ids_names_the_new_tasks(api: Api) -> None:
    has_ended, waits = ended(api), api.submitted()
    gone = ended(api)
    record = api.records.kept[gone]
    api.records.put(replace(record, submission=replace(record.submission, task_type="no_more")))

    found = outcome(bulk(api, "retry", task_ids=[has_ended, waits, gone, UNKNOWN_ID]))

    assert (found["matched"], found["succeeded"]) == (3, [has_ended])
    assert found["failed"] == {waits: "not_final", gone: "task_type_gone", UNKNOWN_ID: "task_not_found"}
    assert api.records.kept[found["created"][has_ended]].submission.retried_from == has_ended


@pytest.mark.parametrize(
    ("wanted", "matched"),
    [
        ({"status": "failed"}, 2),
        ({"status": ["failed", "queued"]}, 5),
        ({"state": "PENDING"}, 3),
        ({"state": ["FAILURE", "PENDING"], "status": "failed"}, 2),
        ({"task_type": "data_processing"}, 5),
        ({"task_type": "email_sending"}, 0),
        ({"priority": "low"}, 1),
        ({"tag": "a"}, 1),
        ({"tag": "a", "status": "failed"}, 0),
        ({"created_after": "2020-01-01T00:00:00Z"}, 5),
        ({"created_before": "2020-01-01T00:00:00Z"}, 0),
    ],
)
def test_a_filter_matches_what_has_all_it_names(api: Api, wanted: dict[str, Any], matched: int) -> None:
    for members in ({}, {"priority": "low"}, {"tags": ["a", "b"]}):
        api.submitted(**members)
    for _ in range(2):
        ended(api)

    dry = outcome(bulk(api, "cancel", filter=wanted, dry_run=True))

    assert dry == {"matched": matched, "succeeded": [], "failed": {}, "created": {}}


def test_a_filter_acts_on_every_page(api: Api) -> None:
    failed = {ended(api) for _ in range(5)}
    waits = api.submitted()

    found = outcome(bulk(api, "retry", filter={"status": "failed"}))

    assert (found["matched"], set(found["succeeded"]), found["failed"]) == (5, failed, {})
    assert waits not in found["created"]


def test_a_dry_run_does_nothing(api: Api) -> None:
    task_id = api.submitted()

    found = outcome(bulk(api, "cancel", task_ids=[task_id, UNKNOWN_ID], dry_run=True))

    assert found["matched"] == 1
    assert api.records.kept[task_id].status is Status.QUEUED


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({}, ""),
        ({"task_ids": [UNKNOWN_ID], "filter": {"tag": "a"}}, ""),
        ({"task_ids": []}, "/task_ids"),
        ({"task_ids": [UNKNOWN_ID] * 1001}, "/task_ids"),
        ({"task_ids": [7]}, "/task_ids/0"),
        ({"filter": {}}, "/filter"),
        ({"filter": {"status": None}}, "/filter"),
        ({"filter": {"status": []}}, "/filter/status"),
        ({"filter": {"status": "lost"}}, "/filter/status/0"),
        ({"filter": {"state": ["SUCCESS", "LOST"]}}, "/filter/state/1"),
        ({"filter": {"state": "SUCCESS", "status": "failed"}}, "/filter/state"),
        ({"filter": {"task_type": ""}}, "/filter/task_type"),
        ({"filter": {"tag": ""}}, "/filter/tag"),
        ({"filter": {"priority": "urgent"}}, "/filter/priority"),
        ({"filter": {"created_after": "yesterday"}}, "/filter/created_after"),
        ({"filter": {"colour": "red"}}, "/filter/colour"),
        ({"task_ids": [UNKNOWN_ID], "action": "pause"}, "/action"),
        ({"task_ids": [UNKNOWN_ID], "dry_run": 1}, "/dry_run"),
        ({"task_ids": [UNKNOWN_ID], "colour": "red"}, "/colour"),
    ],
)
def test_what_does_not_validate_is_refused_and_named(api: Api, members: dict[str, Any], pointer: str) -> None:
    document = assert_problem(bulk(api, **{"action": "cancel", **members}), 422, "invalid_request")

    assert pointer in pointers(document)


def test_a_filter_that_matches_too_many_is_refused_with_their_number(api: Api) -> None:
    task_id = api.submitted()
    api.index.uncounted = 10_000

    document = assert_problem(bulk(api, "cancel", filter={"status": "queued"}), 422, "invalid_request")

    assert document["errors"] == [{"pointer": "/filter", "detail": "matches 10001 tasks; at most 10000 at once"}]
    assert api.records.kept[task_id].status is Status.QUEUED


def test_without_a_broker_nothing_is_repeated_and_each_is_named(api: Api) -> None:
    task_ids = [ended(api), ended(api)]
    api.broker.is_down = True

    found = outcome(bulk(api, "retry", task_ids=task_ids))

    assert found["failed"] == dict.fromkeys(task_ids, "broker_unavailable")
    assert (found["succeeded"], found["created"]) == ([], {})


def test_a_new_task_that_could_not_be_recorded_is_said_to_be_unknown(api: Api) -> None:
    task_id = ended(api)
    api.records.accept_fails = True

    assert outcome(bulk(api, "retry", task_ids=[task_id]))["failed"] == {task_id: "outcome_unknown"}


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_without_a_store_nothing_is_done(api: Api, action: str) -> None:
    task_id = api.submitted()
    api.records.is_down = True

    assert_problem(bulk(api, action, task_ids=[task_id]), 503, "store_unavailable")


def test_a_store_that_goes_away_half_way_leaves_the_rest_named(api: Api) -> None:
    task_ids = [api.submitted() for _ in range(AT_ONCE + 1)]
    api.records.cancels_left = AT_ONCE

    found = outcome(bulk(api, "cancel", task_ids=task_ids))

    assert found["succeeded"] == task_ids[:AT_ONCE]
    assert found["failed"] == {task_ids[-1]: "store_unavailable"}
