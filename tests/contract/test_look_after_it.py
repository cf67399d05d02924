"""API.md, "Look after it": whether it is well, and what it tells of itself.

Each docstring quotes the clause that the test shows; "…" stands between parts of one.
"""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.contract.client import PATIENCE_S, Client, problem
from tests.support.waiting import wait_until


def test_the_process_is_up_whatever_is_missing(client: Client, brokerless: Client, storeless: Client) -> None:
    """`GET /healthz` (process is up)"""
    assert [one.get("/healthz").status_code for one in (client, brokerless, storeless)] == [200, 200, 200]


def test_ready_means_that_a_task_could_run(client: Client, brokerless: Client, storeless: Client) -> None:
    """`GET /readyz` (broker, Redis, and at least one consumer on every queue; 503 names what is missing)"""
    wait_until(lambda: client.get("/readyz").status_code == 200, PATIENCE_S, "every queue has a consumer")

    assert problem(brokerless.get("/readyz"), 503)["missing"] == ["broker"]
    assert problem(storeless.get("/readyz"), 503)["missing"] == ["store"]


def test_metrics_are_what_prometheus_reads(client: Client) -> None:
    """`GET /metrics` (Prometheus)"""
    client.run(priority="high")

    answer = client.get("/metrics")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    depths = {sample.labels["queue"] for sample in families["taskservice_queue_depth"].samples}

    assert answer.headers["Content-Type"].startswith("text/plain")
    assert depths == {"high_priority", "normal_priority", "low_priority"}
    assert families["taskservice_tasks_accepted"].samples


def test_workers_are_listed(client: Client) -> None:
    """`GET /api/workers`"""
    task_id = client.running(priority="high")
    wait_until(lambda: worker_of(client, task_id), PATIENCE_S, "a worker shows that it runs the task")
    worker = worker_of(client, task_id)
    client.cancel(task_id)

    assert worker["status"] == "online"
    assert worker["queues"] == ["high_priority"]
    assert worker["concurrency"] >= 1


def worker_of(client: Client, task_id: str) -> dict[str, Any]:
    """Empty while none shows it."""
    found: list[dict[str, Any]] = [one for one in client.document("/api/workers")["data"] if task_id in one["running"]]
    return found[0] if found else {}


def test_the_service_counts_its_tasks(client: Client) -> None:
    """`GET /api/stats`"""
    before = client.document("/api/stats")["by_priority"]["high"]["by_status"]["succeeded"]
    client.run(priority="high")
    after = client.document("/api/stats")

    assert after["by_priority"]["high"]["by_status"]["succeeded"] == before + 1
    assert after["by_type"]["sleep"]["run_s"]["count"] >= 1


def test_it_describes_itself_in_openapi_3_1(client: Client) -> None:
    """`GET /openapi.json` (3.1)"""
    described = client.document("/openapi.json")

    assert described["openapi"].startswith("3.1.")
    assert described["paths"].keys() >= {
        "/api/tasks", "/api/tasks/batch", "/api/tasks/bulk", "/api/tasks/{task_id}", "/api/tasks/{task_id}/retry",
        "/api/tasks/{task_id}/run", "/api/tasks/{task_id}/events", "/api/events", "/api/batches/{batch_id}",
        "/api/task-types", "/api/files", "/api/files/{filename}", "/api/queues", "/api/queues/{name}/pause",
        "/api/queues/{name}/resume", "/api/queues/{name}/purge", "/api/workers", "/api/stats", "/metrics", "/healthz",
        "/readyz",
    }  # fmt: skip


def test_the_description_can_be_tried_out(client: Client) -> None:
    """`GET /docs` (interactive)"""
    page = client.get("/docs")
    own, library = client.get("/docs/page.js"), client.get("/docs/assets/js/swagger-ui-bundle.js")

    assert [one.status_code for one in (page, own, library)] == [200] * 3
    assert "/docs/page.js" in page.text
    assert "/openapi.json" in own.text


def test_the_console_is_at_the_root(client: Client) -> None:
    """`GET /` (the console)."""
    answer = client.get("/")

    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "/console/" in answer.text
