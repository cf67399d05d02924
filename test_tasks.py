"""The acceptance suite: what a client may rely on, checked over HTTP against a running system.

`python test_tasks.py` starts a private system and stops it; `TASKS_URL=http://… python test_tasks.py` uses one that
runs, with the API key TASKS_KEY if it asks for one; `BROKER=embedded python test_tasks.py` starts one without RabbitMQ.
"""

from __future__ import annotations

import itertools
import os
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from taskservice.local.ports import choose_port
from taskservice.local.system import Broker, LocalSystem
from tests.support.waiting import wait_until

FINAL = ("succeeded", "failed")
PRIORITIES = ("high", "normal", "low")
JSON = "application/json"


class MoodyMailServer:
    """Answers by recipient: `busy…` is told 451 three times and then accepted, `unknown…` is told 550 always."""

    def __init__(self) -> None:
        self.tries: Counter[str] = Counter()

    async def handle_RCPT(  # noqa: N802  aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.tries[address] += 1
        if address.startswith("unknown"):
            return "550 no such mailbox"
        if address.startswith("busy") and self.tries[address] <= 3:
            return "451 mailbox is busy, try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"


class Client:
    """A client of the service under test."""

    def __init__(self, url: str, *, mail: MoodyMailServer | None, broker: str) -> None:
        self.url = url.rstrip("/")
        self.mail = mail  # None: the system has a mail server of its own
        self.broker = broker
        self._session = requests.Session()
        if key := os.environ.get("TASKS_KEY"):
            self._session.headers["Authorization"] = f"Bearer {key}"

    def post(self, body: object, path: str = "/api/tasks") -> requests.Response:
        return self._session.post(self.url + path, json=body, timeout=15)

    def post_text(self, text: bytes, content_type: str = JSON) -> requests.Response:
        headers = {"Content-Type": content_type}
        return self._session.post(f"{self.url}/api/tasks", data=text, headers=headers, timeout=15)

    def get(self, path: str) -> requests.Response:
        return self._session.get(self.url + path, timeout=15)

    def upload(self, filename: str, content: bytes) -> requests.Response:
        return self._session.post(f"{self.url}/api/files", files={"file": (filename, content)}, timeout=15)

    def delete(self, path: str) -> requests.Response:
        return self._session.delete(self.url + path, timeout=15)

    def submit(self, task_type: str, parameters: dict[str, Any], **members: Any) -> str:
        answer = self.post({"task_type": task_type, "parameters": parameters, **members})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["task_id"])

    def task(self, task_id: str) -> dict[str, Any]:
        answer = self.get(f"/api/tasks/{task_id}")
        assert answer.status_code == 200, answer.text
        task: dict[str, Any] = answer.json()
        return task

    def finished(self, task_id: str, timeout_s: float = 30) -> dict[str, Any]:
        wait_until(lambda: self.task(task_id)["status"] in FINAL, timeout_s, f"task {task_id} is final")
        return self.task(task_id)

    def run(self, task_type: str, parameters: dict[str, Any], **members: Any) -> dict[str, Any]:
        return self.finished(self.submit(task_type, parameters, **members))


def instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    url = os.environ.get("TASKS_URL")
    if url:
        print(f"testing the system at {url}; what needs a mail server of the test's own is skipped")
        yield Client(url, mail=None, broker="unknown")
        return
    broker: Broker = "embedded" if os.environ.get("BROKER") == "embedded" else "rabbitmq"
    with mail_server() as (mail, port), private_system(tmp_path_factory.mktemp("system"), broker, port) as system:
        yield Client(system.url, mail=mail, broker=broker)


class mail_server:  # noqa: N801  used as a function
    """A moody mail server on a free port: `with mail_server() as (moods, port)`."""

    def __enter__(self) -> tuple[MoodyMailServer, int]:
        moods, port = MoodyMailServer(), choose_port()
        self._controller = Controller(moods, hostname="127.0.0.1", port=port)
        self._controller.start()
        return moods, port

    def __exit__(self, *_: object) -> None:
        self._controller.stop()


def private_system(data_dir: Path, broker: Broker, mail_port: int) -> LocalSystem:
    env = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(mail_port)}
    return LocalSystem(data_dir, private_ports=True, broker=broker, env=env)


class TestSubmitting:
    def test_the_first_example_of_the_readme_counts_two_words(self, client: Client) -> None:
        parameters = {"data": "test data"}
        body = {"task_type": "data_processing", "priority": "high", "parameters": parameters, "delay": 0}

        answer = client.post(body)
        promise = answer.json()
        task = client.finished(promise["task_id"])

        assert answer.status_code == 202
        assert answer.headers["Location"] == f"/api/tasks/{promise['task_id']}"
        assert (promise["state"], promise["status"], promise["queue"]) == ("PENDING", "queued", "high_priority")
        assert (task["state"], task["status"], task["result"]["words"]) == ("SUCCESS", "succeeded", 2)

    def test_priority_is_normal_unless_said(self, client: Client) -> None:
        answer = client.post({"task_type": "data_processing", "parameters": {"data": "x"}})

        assert answer.json()["priority"] == "normal"

    @pytest.mark.parametrize("priority", PRIORITIES)
    def test_a_task_runs_on_the_worker_of_its_queue(self, client: Client, priority: str) -> None:
        task = client.run("data_processing", {"data": "x"}, priority=priority)

        assert task["queue"] == f"{priority}_priority"
        assert task["worker"].startswith(f"{priority}@")

    def test_a_delayed_task_starts_neither_early_nor_late(self, client: Client) -> None:
        task_id = client.submit("data_processing", {"data": "x"}, delay=2.5)

        waiting = client.task(task_id)
        task = client.finished(task_id)
        started_after_s = instant(task["started_at"]) - instant(task["created_at"])

        assert waiting["status"] == "scheduled"
        assert 2.5 <= started_after_s < 10  # generous above: this machine may be busy


class TestRefusing:
    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"task_type": "data_processing", "priority": "urgent", "parameters": {"data": "x"}}, "/priority"),
            ({"task_type": "email_sending", "parameters": {"subject": "s", "body": "b"}}, "/parameters/to"),
            ({"task_type": "data_processing", "parameters": {"data": "x"}, "delay": -1}, "/delay"),
            ({"task_type": "data_processing", "parameters": {"data": "x"}, "delay": "soon"}, "/delay"),
            ({"task_type": "data_processing", "parameters": {"data": 5}}, "/parameters/data"),
            ({"task_type": "no_such_type", "parameters": {}}, "/task_type"),
            ({"task_type": "data_processing", "parameters": {"data": "x"}, "colour": "red"}, "/colour"),
            ({"parameters": {"data": "x"}}, "/task_type"),
            ([1, 2], ""),
        ],
    )
    def test_what_does_not_validate_is_422_and_names_the_member(
        self, client: Client, body: object, pointer: str
    ) -> None:
        answer = client.post(body)

        assert answer.status_code == 422
        assert answer.headers["Content-Type"].startswith("application/problem+json")
        assert pointer in [error["pointer"] for error in answer.json()["errors"]]

    @pytest.mark.parametrize("text", [b"{", b'{"a": NaN}', b"\xef\xbb\xbf{}", b'"\xff"', b"[" * 200 + b"]" * 200])
    def test_what_is_not_json_is_400(self, client: Client, text: bytes) -> None:
        assert client.post_text(text).status_code == 400

    def test_another_content_type_is_415(self, client: Client) -> None:
        assert client.post_text(b"{}", content_type="text/plain").status_code == 415

    def test_a_body_of_two_mebibytes_is_413(self, client: Client) -> None:
        body = {"task_type": "data_processing", "parameters": {"data": "x" * 2 * 2**20}}

        assert client.post(body).status_code == 413

    @pytest.mark.parametrize("task_id", [str(uuid.uuid4()), "nonsense", "..", "a" * 300])
    def test_an_invented_id_is_404_never_pending(self, client: Client, task_id: str) -> None:
        answer = client.get(f"/api/tasks/{task_id}")

        assert answer.status_code == 404
        assert answer.json()["error"]


class TestTaskTypes:
    def test_each_type_is_listed_with_its_schema(self, client: Client) -> None:
        types = {one["name"]: one for one in client.get("/api/task-types").json()["data"]}

        assert {"data_processing", "email_sending", "file_processing"} <= set(types)
        assert all(one["parameters_schema"]["properties"] for one in types.values())

    def test_numbers_are_summarised(self, client: Client) -> None:
        result = client.run("data_processing", {"data": [1, 2, 3, 4]})["result"]

        assert (result["count"], result["min"], result["max"], result["mean"], result["sum"]) == (4, 1, 4, 2.5, 10)

    def test_sql_over_an_uploaded_file_gives_rows(self, client: Client) -> None:
        client.upload("acceptance.csv", b"city,people\nDhaka,10\nKhulna,3\n")

        task = client.run("data_processing", {"file": "acceptance.csv", "query": "select sum(people) as n from data"})

        assert task["result"]["columns"] == ["n"]
        assert task["result"]["row_count"] == 1

    def test_sql_that_reads_the_workers_files_is_not_allowed(self, client: Client) -> None:
        query = "select * from read_text('/etc/passwd')"

        task = client.run("data_processing", {"data": [{"a": 1}], "query": query})

        assert task["status"] == "failed"
        assert task["error"]["code"] in ("query_not_allowed", "query_failed")
        assert task["error"]["retryable"] is False

    def test_a_mail_is_sent(self, client: Client) -> None:
        parameters = {"to": "ada@example.com", "subject": "Acceptance", "body": "Hello"}

        task = client.run("email_sending", parameters)

        assert task["result"]["accepted"] == ["ada@example.com"]
        assert task["result"]["message_id"]

    def test_a_file_is_inspected(self, client: Client) -> None:
        client.upload("acceptance.txt", b"one\ntwo\n")

        result = client.run("file_processing", {"filename": "acceptance.txt"})["result"]

        assert (result["size_bytes"], result["lines"], result["words"]) == (8, 2, 2)

    def test_a_file_made_by_a_task_can_be_downloaded(self, client: Client) -> None:
        client.upload("acceptance.txt", b"one\ntwo\n" * 100)

        result = client.run("file_processing", {"filename": "acceptance.txt", "operation": "compress"})["result"]
        made = client.get(f"/api/files/{result['output']['filename']}")

        assert made.status_code == 200
        assert len(made.content) == result["output"]["size_bytes"] < 800

    def test_a_deleted_file_is_gone(self, client: Client) -> None:
        client.upload("acceptance-gone.txt", b"x")

        deleted = client.delete("/api/files/acceptance-gone.txt")

        assert deleted.status_code == 204
        assert client.get("/api/files/acceptance-gone.txt").status_code == 404


class TestFailing:
    def test_a_missing_file_fails_at_once(self, client: Client) -> None:
        task = client.run("file_processing", {"filename": "never-uploaded.txt"})

        assert (task["status"], task["attempt"], task["error"]["code"]) == ("failed", 1, "file_not_found")

    def test_a_busy_mailbox_is_tried_again_after_1_2_and_4_seconds(self, client: Client) -> None:
        needs_own_mail_server(client)
        address = f"busy-{uuid.uuid4().hex[:8]}@example.com"

        task_id = client.submit("email_sending", {"to": address, "subject": "s", "body": "b"}, priority="high")
        task = client.finished(task_id, timeout_s=60)
        attempts = task["attempts"]
        waits_s = [
            instant(later["started_at"]) - instant(earlier["finished_at"])
            for earlier, later in itertools.pairwise(attempts)
        ]

        assert task["status"] == "succeeded"
        assert [attempt["number"] for attempt in attempts] == [1, 2, 3, 4]
        assert [attempt["error"]["code"] for attempt in attempts[:3]] == ["smtp_unavailable"] * 3
        assert all(attempt["worker"].startswith("high@") for attempt in attempts)
        assert all(expected - 0.2 <= wait < expected + 5 for expected, wait in zip((1, 2, 4), waits_s, strict=True))

    def test_a_mailbox_that_does_not_exist_fails_after_one_attempt(self, client: Client) -> None:
        needs_own_mail_server(client)

        task = client.run("email_sending", {"to": "unknown@example.com", "subject": "s", "body": "b"})

        assert (task["status"], task["attempt"], task["error"]["code"]) == ("failed", 1, "smtp_refused")

    def test_retries_can_be_turned_off_for_a_task(self, client: Client) -> None:
        needs_own_mail_server(client)
        address = f"busy-{uuid.uuid4().hex[:8]}@example.com"

        task = client.run("email_sending", {"to": address, "subject": "s", "body": "b"}, max_retries=0)

        assert (task["status"], task["attempt"], task["error"]["retryable"]) == ("failed", 1, True)


class TestLookingAfterIt:
    def test_it_is_up_and_ready(self, client: Client) -> None:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200

    def test_it_describes_itself(self, client: Client) -> None:
        document = client.get("/openapi.json").json()

        assert document["openapi"].startswith("3.1")
        assert {"/api/tasks", "/api/tasks/{task_id}", "/api/files"} <= set(document["paths"])
        assert client.get("/docs").status_code == 200


def needs_own_mail_server(client: Client) -> None:
    if client.mail is None:
        pytest.skip("needs a mail server of the test's own; this system has another")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-ra", *sys.argv[1:]]))
