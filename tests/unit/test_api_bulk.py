"""Many tasks at once held to API.md: what is matched, what is done, and why the rest is not."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from taskservice.api.bulk import TIME_S
from taskservice.api.tally import AT_ONCE, Tally, act_on
from taskservice.model import Record, Status
from tests.support.api import UNKNOWN_ID, Api, assert_problem, open_api, pointers
from tests.support.fakes import MemoryRecords


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with open_api(tmp_path) as api:
        yield api


def bulk(api: Api, action: str, *, key: str | None = None, **members: Any) -> TestResponse:
    headers = {} if key is None else {"Idempotency-Key": key}
    return api.client.post("/api/tasks/bulk", json={"action": action, **members}, headers=headers)


def outcome(response: TestResponse) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.get_json()
    assert found.keys() == {"matched", "succeeded", "failed", "created", "has_more", "untried"}
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

    nothing = {"succeeded": [], "failed": {}, "created": {}, "has_more": False, "untried": []}
    assert dry == {"matched": matched, **nothing}


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


def test_the_broker_is_not_waited_for_until_the_answer_would_be_late(api: Api) -> None:
    task_id, began = ended(api), time.monotonic()

    bulk(api, "retry", task_ids=[task_id])

    assert api.broker.publish_until is not None
    assert (
        began + TIME_S < api.broker.publish_until <= time.monotonic() + 5 - 1
    )  # the store's share of 5 s, to refuse it


def test_a_new_task_that_could_not_be_recorded_is_said_to_be_unknown(api: Api) -> None:
    task_id = ended(api)
    api.records.accept_fails = True

    assert outcome(bulk(api, "retry", task_ids=[task_id]))["failed"] == {task_id: "outcome_unknown"}


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_without_a_store_nothing_is_done(api: Api, action: str) -> None:
    task_id = api.submitted()
    api.records.is_down = True

    document = assert_problem(bulk(api, action, task_ids=[task_id]), 503, "store_unavailable")

    assert document["outcome"] == {"cancel": "unknown", "retry": "refused"}[action]


def test_a_store_that_goes_away_half_way_leaves_the_rest_named(api: Api) -> None:
    task_ids = [api.submitted() for _ in range(AT_ONCE + 1)]
    api.records.cancels_left = AT_ONCE

    found = outcome(bulk(api, "cancel", task_ids=task_ids))

    assert found["succeeded"] == task_ids[:AT_ONCE]
    assert found["failed"] == {task_ids[-1]: "store_unavailable"}


# With an Idempotency-Key, and without time


def test_a_repetition_gets_the_first_answer_and_repeats_no_task(api: Api) -> None:
    task_ids = [ended(api), ended(api)]

    first, second = (bulk(api, "retry", key="k", filter={"status": "failed"}) for _ in range(2))

    assert sorted(outcome(first)["succeeded"]) == sorted(task_ids)
    assert outcome(second)["succeeded"] == outcome(first)["succeeded"]
    assert second.data == first.data
    assert second.headers["Idempotency-Replayed"] == "true"
    assert retried_from(api) == sorted(task_ids)


def test_a_repetition_of_what_was_cut_short_goes_on_with_the_rest(api: Api) -> None:
    task_ids = [ended(api) for _ in range(5)]
    api.broker.takes = 2
    first = outcome(bulk(api, "retry", key="k", task_ids=task_ids))
    api.broker.takes = None

    second = outcome(bulk(api, "retry", key="k", task_ids=task_ids))

    assert (first["succeeded"], len(first["failed"])) == (task_ids[:2], 3)
    assert (second["succeeded"], second["failed"]) == (task_ids, {})
    assert first["created"].items() <= second["created"].items()
    assert retried_from(api) == sorted(task_ids)


def test_a_key_with_another_wish_is_refused(api: Api) -> None:
    task_id = ended(api)
    bulk(api, "retry", key="k", task_ids=[task_id])

    assert_problem(bulk(api, "cancel", key="k", task_ids=[task_id]), 422, "idempotency_key_reused")


def test_a_dry_run_takes_no_key(api: Api) -> None:
    task_id = ended(api)

    bulk(api, "retry", key="k", task_ids=[task_id], dry_run=True)

    assert outcome(bulk(api, "retry", key="k", task_ids=[task_id]))["succeeded"] == [task_id]


def test_when_time_is_up_the_rest_is_named_and_not_tried() -> None:
    task_ids = [str(number) for number in range(3 * AT_ONCE)]
    acted: list[str] = []

    def act(chunk: Sequence[str], tally: Tally) -> None:
        acted.extend(chunk)
        for task_id in chunk:
            tally.succeed(task_id)

    tally = act_on(task_ids, act, end_at=time.monotonic())

    assert tally.succeeded == acted == task_ids[:AT_ONCE]
    assert tally.untried == task_ids[AT_ONCE:]
    assert (tally.outcome, tally.matched) == ("refused", 3 * AT_ONCE)


def test_large_records_are_read_few_at_once(api: Api) -> None:
    task_ids = [ended(api, parameters={"data": "x" * 900_000}) for _ in range(20)]
    reader = CountingReader(api.records)
    api.records.get_many = reader.get_many  # type: ignore[method-assign]

    found = outcome(bulk(api, "retry", task_ids=task_ids))

    assert found["succeeded"] == task_ids
    assert max(reader.read_at_once) < 10


class CountingReader:
    """Reads records as the store does, and notes how many at once."""

    def __init__(self, records: MemoryRecords) -> None:
        self._get_many = records.get_many
        self.read_at_once: list[int] = []

    def get_many(self, task_ids: Sequence[str]) -> list[Record]:
        self.read_at_once.append(len(task_ids))
        return self._get_many(task_ids)


def retried_from(api: Api) -> list[str]:
    """The first tasks of all that were published as repetitions."""
    return sorted(one.retried_from for one in api.broker.published if one.retried_from)
