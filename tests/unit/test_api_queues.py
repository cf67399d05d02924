"""The work queues held to API.md: what is read of them, and pause, resume and purge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from taskservice.model import Status, now
from tests.support.api import Api, assert_problem, open_api


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with open_api(tmp_path) as api:
        yield api


def test_each_queue_is_listed_with_what_is_in_it(api: Api) -> None:
    record = api.records.kept[api.submitted(priority="low")]
    earlier = replace(record.submission, created_at=now() - timedelta(seconds=30))
    api.records.put(replace(record, submission=earlier))
    api.pauses.pause("low_priority")

    high, normal, low = api.client.get("/api/queues").get_json()["data"]

    assert [queue["name"] for queue in (high, normal, low)] == ["high_priority", "normal_priority", "low_priority"]
    assert high == {
        "name": "high_priority",
        "priority": "high",
        "depth": 0,
        "unacknowledged": None,
        "consumers": 1,
        "oldest_age_s": None,
        "paused": False,
    }
    assert (low["depth"], low["paused"]) == (1, True)
    assert 30 <= low["oldest_age_s"] < 40


def test_a_scheduled_task_does_not_make_its_queue_look_old(api: Api) -> None:
    api.submitted(priority="low", delay=60)

    assert api.client.get("/api/queues").get_json()["data"][2]["oldest_age_s"] is None


def test_pausing_and_resuming_answer_with_the_queue_and_may_be_repeated(api: Api) -> None:
    paused = [api.client.put("/api/queues/high_priority/pause") for _ in range(2)]
    still = api.client.get("/api/queues").get_json()["data"]
    resumed = [api.client.put("/api/queues/high_priority/resume") for _ in range(2)]

    assert [(one.status_code, one.get_json()["paused"]) for one in paused] == [(200, True)] * 2
    assert [queue["paused"] for queue in still] == [True, False, False]
    assert [(one.status_code, one.get_json()["paused"]) for one in resumed] == [(200, False)] * 2


def test_purging_cancels_what_is_queued_and_nothing_else(api: Api) -> None:
    queued = [api.submitted(priority="low") for _ in range(5)]
    others = [api.submitted(priority="low", delay=60), api.submitted(priority="high")]
    for status in (Status.RUNNING, Status.RETRYING, Status.SUCCEEDED):
        others.append(api.records.put(replace(api.records.kept[api.submitted(priority="low")], status=status)))
    before = [api.records.kept[task_id] for task_id in others]

    response = api.client.post("/api/queues/low_priority/purge")

    assert (response.status_code, response.get_json()) == (200, {"cancelled": 5})
    assert {api.records.kept[task_id].status for task_id in queued} == {Status.CANCELLED}
    assert [api.records.kept[task_id] for task_id in others] == before


def test_what_is_left_of_a_type_that_is_listed_no_more_is_shown_and_named_until_someone_consumes_it(api: Api) -> None:
    left = "high_priority.email_sending"
    api.broker.left_over[left] = 3
    queues = api.client.get("/api/queues").get_json()["data"]
    document = assert_problem(api.client.get("/readyz"), 503, "not_ready")

    assert [queue["name"] for queue in queues][3:] == [left]
    assert (queues[3]["depth"], queues[3]["priority"], queues[3]["oldest_age_s"]) == (3, "high", None)
    assert document["missing"] == [left]
    assert_problem(api.client.put(f"/api/queues/{left}/pause"), 404, "queue_not_found")


def test_what_is_left_waits_with_the_shared_queue_while_that_is_paused(api: Api) -> None:
    api.broker.left_over["high_priority.email_sending"] = 3
    api.pauses.pause("high_priority")

    assert api.client.get("/readyz").status_code == 200


@pytest.mark.parametrize(("method", "action"), [("PUT", "pause"), ("PUT", "resume"), ("POST", "purge")])
def test_an_unknown_queue_is_404(api: Api, method: str, action: str) -> None:
    response = api.client.open(f"/api/queues/dead_letter/{action}", method=method)

    assert_problem(response, 404, "queue_not_found")


def test_without_a_broker_nothing_is_paused(api: Api) -> None:
    api.broker.is_down = True

    assert_problem(api.client.put("/api/queues/high_priority/pause"), 503, "broker_unavailable")
    assert api.pauses.paused() == frozenset()


def test_without_a_store_queues_are_503(api: Api) -> None:
    api.records.is_down = True

    assert_problem(api.client.get("/api/queues"), 503, "store_unavailable")
    assert_problem(api.client.post("/api/queues/high_priority/purge"), 503, "store_unavailable")
