"""Task types with queues and workers of their own, with real processes: who runs what, and what is left over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from taskservice.local.system import LocalSystem
from taskservice.worker.leftovers import LOOK_S
from tests.conftest import WaitUntil
from tests.support.receiver import receiving
from tests.support.service import LEDGER, Service

OWN = "short_sleep"  # has queues of its own and a rate limit; `sleep` is on the shared ones
QUEUES = [
    *("high_priority", "normal_priority", "low_priority"),
    *(f"{priority}_priority.{name}" for name in (OWN, "webhook_delivery") for priority in ("high", "normal", "low")),
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("dedicated")
    env = {
        "TASK_TYPE_MODULES": "tests.support.task_types",
        "EXECUTION_LEDGER": str(folder / LEDGER),
        "RATE_LIMITS": f"{OWN}=3/s",
        "DEDICATED_TASK_TYPES": f"{OWN}, webhook_delivery",
        "WEBHOOKS_ALLOW_HTTP": "1",
    }
    with LocalSystem(folder, private_ports=True, env=env) as system:
        yield Service(system)


def own(service: Service, parameters: dict[str, Any] | None = None, **members: Any) -> str:
    return service.submit(parameters or {}, task_type=OWN, **members)


def workers_of(service: Service, task_id: str) -> set[str]:
    return {attempt["worker"].split("@")[0] for attempt in service.task(task_id)["attempts"]}


def queues(service: Service) -> dict[str, dict[str, Any]]:
    return {queue["name"]: queue for queue in service.call("GET", "/api/queues")["data"]}


def test_every_queue_is_listed_and_consumed(service: Service) -> None:
    found = queues(service)
    metrics = requests.get(f"{service.system.url}/metrics", timeout=6).text

    assert list(found) == QUEUES
    assert {queue["consumers"] for queue in found.values()} == {1}
    assert found[f"low_priority.{OWN}"]["priority"] == "low"
    for name in QUEUES:
        assert f'taskservice_queue_depth{{priority="{name.split("_")[0]}",queue="{name}"}}' in metrics


@pytest.mark.parametrize("priority", ["high", "normal", "low"])
def test_a_dedicated_type_is_run_by_its_own_workers_and_the_others_by_the_shared_ones(
    service: Service, wait_until: WaitUntil, priority: str
) -> None:
    body = {"task_type": OWN, "priority": priority, "parameters": {}}
    accepted = service.call("POST", "/api/tasks", status=202, json=body)
    planned = service.call("POST", "/api/tasks", params={"dry_run": "true"}, json=body)
    other = service.submit({}, priority=priority)
    wait_until(lambda: service.are_final([accepted["task_id"], other]), 20, "both ran")

    assert accepted["queue"] == planned["queue"] == f"{priority}_priority.{OWN}"
    assert service.task(accepted["task_id"])["queue"] == accepted["queue"]
    assert service.task(other)["queue"] == f"{priority}_priority"
    assert workers_of(service, accepted["task_id"]) == {OWN}
    assert workers_of(service, other) == {priority}


def test_retries_delays_run_now_and_put_offs_stay_on_the_own_queue(service: Service, wait_until: WaitUntil) -> None:
    retried = own(service, {"fail_attempts": 2}, priority="low")
    delayed = own(service, delay=2)
    hastened = own(service, priority="high", delay=600)
    service.call("POST", f"/api/tasks/{hastened}/run", status=202)
    put_off = [own(service, priority="high") for _ in range(9)]  # three times as many as may start in a second
    wait_until(lambda: service.are_final([retried, delayed, hastened, *put_off]), 40, "all ran")

    assert service.task(retried)["attempt"] == 3
    assert set().union(*(workers_of(service, one) for one in (retried, delayed, hastened, *put_off))) == {OWN}


def test_a_flood_of_a_dedicated_type_holds_nobody_else_up(service: Service, wait_until: WaitUntil) -> None:
    flood = [own(service, {"seconds": 1}) for _ in range(12)]
    began = time.monotonic()
    other = service.submit({})
    wait_until(lambda: service.is_final(other), 10, "the shared queue is free")
    took_s = time.monotonic() - began
    unfinished = sum(not service.is_final(one) for one in flood)
    wait_until(lambda: service.are_final(flood), 40, "the flood is over")

    assert unfinished > 4
    assert took_s < 4


def test_a_pause_is_of_one_queue_alone(service: Service, wait_until: WaitUntil) -> None:
    service.call("PUT", f"/api/queues/low_priority.{OWN}/pause")
    service.call("PUT", "/api/queues/normal_priority/pause")
    try:
        held = [own(service, priority="low"), service.submit({}, priority="normal")]
        free = [service.submit({}, priority="low"), own(service, priority="normal")]
        wait_until(lambda: service.are_final(free), 20, "the others are not paused")
        still = [service.status(one) for one in held]
        paused = {name for name, queue in queues(service).items() if queue["paused"]}
        is_ready = requests.get(f"{service.system.url}/readyz", timeout=6).status_code == 200
    finally:
        service.call("PUT", f"/api/queues/low_priority.{OWN}/resume")
        service.call("PUT", "/api/queues/normal_priority/resume")
    wait_until(lambda: service.are_final(held), 15, "they run after they were resumed")

    assert still == ["queued", "queued"]
    assert paused == {f"low_priority.{OWN}", "normal_priority"}
    assert is_ready


def test_purging_a_queue_leaves_the_others_of_its_priority(service: Service, wait_until: WaitUntil) -> None:
    names = (f"low_priority.{OWN}", "low_priority")
    for name in names:
        service.call("PUT", f"/api/queues/{name}/pause")
    try:
        mine, shared = own(service, priority="low"), service.submit({}, priority="low")
        time.sleep(1.1)  # so that they have an age
        ages = [queues(service)[name]["oldest_age_s"] for name in (*names, "low_priority.webhook_delivery")]
        purged = [service.call("POST", f"/api/queues/{name}/purge") for name in names[:1]]
        after_first = [service.status(one) for one in (mine, shared)]
        purged += [service.call("POST", f"/api/queues/{name}/purge") for name in names[1:]]
    finally:
        for name in names:
            service.call("PUT", f"/api/queues/{name}/resume")

    assert min(ages[:2]) > 1
    assert ages[2] is None
    assert purged == [{"cancelled": 1}, {"cancelled": 1}]
    assert after_first == ["cancelled", "queued"]
    assert service.status(shared) == "cancelled"


def test_webhooks_may_have_queues_of_their_own(service: Service, wait_until: WaitUntil) -> None:
    program = service.system.supervisor.stop("worker-webhook_delivery")
    try:
        with receiving() as receiver:
            callback = {"url": receiver.url(), "events": ["succeeded"]}
            task_id = service.submit({}, callback=callback)
            wait_until(lambda: service.is_final(task_id), 20, "the task itself ran")
            name = "normal_priority.webhook_delivery"
            wait_until(lambda: queues(service)[name]["depth"] == 1, 15, "its webhook waits for a worker of its own")
            service.system.supervisor.start(program)
            wait_until(lambda: receiver.received, 30, "it was delivered")
    finally:
        if not service.system.supervisor.is_alive("worker-webhook_delivery"):
            service.system.supervisor.start(program)


def test_readiness_names_a_queue_that_nobody_consumes(service: Service, wait_until: WaitUntil) -> None:
    program = service.system.supervisor.stop(f"worker-{OWN}")
    missing: list[str] = []

    def is_named() -> bool:
        missing[:] = requests.get(f"{service.system.url}/readyz", timeout=6).json().get("missing", [])
        return bool(missing)

    wait_until(is_named, 15, "readiness noticed")
    service.system.supervisor.start(program)
    wait_until(lambda: not is_named(), 40, "it is ready again")

    assert set(missing or QUEUES[3:6]) == set(QUEUES[3:6])


def test_workers_tell_which_queue_is_unknown(service: Service, tmp_path: Path, wait_until: WaitUntil) -> None:
    log = start_worker(service, "stray", "high_priority.email_sending")
    wait_until(lambda: "high_priority.email_sending: there is no such queue" in log.read_text(), 40, "it was said")
    service.system.supervisor.stop("worker-stray")

    assert f"DEDICATED_TASK_TYPES='{OWN},webhook_delivery'" in log.read_text()


def start_worker(service: Service, name: str, queue: str) -> Path:
    supervisor = service.system.supervisor
    like = supervisor.stop("worker-low")
    supervisor.start(like)
    command = [{"low_priority": queue, "low@%h": f"{name}@%h"}.get(word, word) for word in like.command]
    supervisor.start(replace(like, name=f"worker-{name}", command=command))
    return supervisor.log(f"worker-{name}")


def test_what_is_left_of_a_type_that_is_listed_no_more_is_run_by_the_shared_workers(
    service: Service, wait_until: WaitUntil
) -> None:
    """The last one: it changes the deployment."""
    supervisor = service.system.supervisor
    supervisor.stop(f"worker-{OWN}")
    left = [own(service, {"fail_attempts": 1}, priority="high"), own(service, priority="low")]
    late = own(service, priority="high", delay=12)  # it arrives after the workers have looked for the first time
    supervisor.stop("worker-webhook_delivery")
    for name in ("web", "worker-high", "worker-normal", "worker-low"):
        program = supervisor.stop(name)
        env = {key: value for key, value in program.env.items() if key != "DEDICATED_TASK_TYPES"}
        supervisor.start(replace(program, env=env))
    wait_until(lambda: is_up(service), 60, "the service is back")

    wait_until(lambda: service.are_final(left), 60, "they ran")
    found = queues(service)
    wait_until(lambda: service.is_final(late), 20 + 2 * LOOK_S, "the delayed one ran too")
    new = own(service, priority="high")
    wait_until(lambda: service.is_final(new), 20, "new ones are on the shared queue")

    assert {service.status(one) for one in (*left, late)} == {"succeeded"}
    assert workers_of(service, left[0]) | workers_of(service, late) == {"high"}
    assert workers_of(service, left[1]) == {"low"}
    assert service.task(left[0])["attempt"] == 2
    assert set(found) >= set(QUEUES[:3])
    assert service.task(new)["queue"] == "high_priority"


def is_up(service: Service) -> bool:
    try:
        return requests.get(f"{service.system.url}/healthz", timeout=2).ok
    except requests.RequestException:
        return False
