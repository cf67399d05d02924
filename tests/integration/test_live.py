"""Live events with real processes: streams over a restart of the store, clients that leave, and stops of the web."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import requests

from tests.conftest import WaitUntil
from tests.support.service import Service


class Sent(NamedTuple):
    """One event as a client read it."""

    id: str
    name: str
    task_id: str
    status: str


@contextmanager
def opened(service: Service, path: str, *, after: str | None = None) -> Iterator[Iterator[Sent]]:
    headers = {} if after is None else {"Last-Event-ID": after}
    with requests.get(f"{service.system.url}{path}", headers=headers, stream=True, timeout=20) as response:
        assert response.status_code == 200, response.text
        yield events_of(response)


def events_of(response: requests.Response) -> Iterator[Sent]:
    text = ""
    for chunk in response.iter_content(chunk_size=None):  # as they arrive
        *blocks, text = (text + chunk.decode()).split("\n\n")
        for block in blocks:
            fields = dict(line.split(": ", 1) for line in block.splitlines())
            if "event" in fields:
                data = json.loads(fields["data"])
                yield Sent(fields["id"], fields["event"], data.get("task_id", ""), data.get("status", ""))


def follow(service: Service, task_id: str, *, after: str | None = None) -> list[Sent]:
    with opened(service, f"/api/tasks/{task_id}/events", after=after) as events:
        return list(events)


def names(events: list[Sent]) -> list[str]:
    return [event.name for event in events]


def test_a_task_is_followed_from_its_snapshot_to_its_end(service: Service) -> None:
    task_id = service.submit({"seconds": 2, "reports": 4, "fail_attempts": 1})
    events = follow(service, task_id)

    told = [name for name in names(events)[1:] if name not in ("queued", "progress")]
    assert names(events)[0] == "snapshot"
    assert told[-4:] in (["started", "retrying", "started", "succeeded"], ["retrying", "started", "succeeded"])
    assert "progress" in names(events)
    assert events[-1].status == "succeeded"
    assert len({event.id for event in events[1:]}) == len(events) - 1


def test_whoever_comes_back_gets_exactly_the_rest(service: Service, wait_until: WaitUntil) -> None:
    with opened(service, "/api/events") as everything:
        next(everything)  # the snapshot: from here on nothing is missed
        task_id = service.submit({"seconds": 0.5, "fail_attempts": 1})
        whole: list[Sent] = []
        while not whole or whole[-1].name != "succeeded":
            event = next(everything)
            whole += [event] if event.task_id == task_id else []

    for number, event in enumerate(whole[:-1], start=1):
        assert [one[:3] for one in follow(service, task_id, after=event.id)] == [one[:3] for one in whole[number:]]
    url = f"{service.system.url}/api/tasks/{task_id}/events"
    last = requests.get(url, headers={"Last-Event-ID": whole[-1].id}, timeout=10)

    assert names(whole) == ["queued", "started", "retrying", "started", "succeeded"]
    assert last.status_code == 204


def test_streams_of_every_process_tell_the_same(service: Service) -> None:
    task_id = service.submit({"seconds": 1}, delay=2)
    streams = [requests.get(f"{service.system.url}/api/tasks/{task_id}/events", stream=True) for _ in range(12)]
    told = [names(list(events_of(stream)))[1:] for stream in streams]

    assert all(one == told[0] for one in told)
    assert told[0][-2:] == ["started", "succeeded"]


def test_a_stream_outlives_a_restart_of_the_store(service: Service, wait_until: WaitUntil) -> None:
    supervisor = service.system.supervisor
    task_id = service.submit({"seconds": 0.2}, delay=6)
    with opened(service, f"/api/tasks/{task_id}/events") as events:
        first = next(events)
        store = supervisor.stop("redis")
        time.sleep(2)  # readers meet the outage
        away = requests.get(f"{service.system.url}/api/tasks/{task_id}/events", timeout=10)
        supervisor.start(store)
        rest = names(list(events))

    assert (first.name, first.status) == ("snapshot", "scheduled")
    assert away.status_code == 503
    assert rest[-2:] == ["started", "succeeded"]


def test_clients_that_left_are_noticed_within_a_heartbeat(service: Service, wait_until: WaitUntil) -> None:
    task_id = service.submit({}, delay=3600)
    before = sockets(service)
    clients = [connect(service, f"/api/tasks/{task_id}/events") for _ in range(20)]
    while_open = sockets(service)
    for client in clients[:10]:
        client.recv(65536)  # all there is: the connection is closed in peace, else it is reset
    for client in clients:
        client.close()

    assert while_open - before > 15
    wait_until(lambda: sockets(service) - before < 5, 17, "the web has closed its ends")


def test_a_client_that_does_not_read_is_dropped_and_others_are_served(service: Service, wait_until: WaitUntil) -> None:
    """Each change carries the parameters, and all changes together more than the system keeps for a connection."""
    task_id = service.submit({"mark": "x" * 900_000, "fail_attempts": 3}, delay=2)
    before = sockets(service)
    with ExitStack() as clients:
        for _ in range(10):
            clients.enter_context(connect(service, f"/api/tasks/{task_id}/events", receive_bytes=2048))
        while_open = sockets(service)
        others = names(follow(service, task_id))
        wait_until(lambda: sockets(service) - before < 5, 25, "the deaf are dropped")

    assert while_open - before > 8
    assert others[-1] == "succeeded"


@pytest.mark.parametrize("path", ["/api/events", "/api/tasks/{}/events"])
def test_a_restart_of_the_web_does_not_wait_for_streams(service: Service, wait_until: WaitUntil, path: str) -> None:
    task_id = service.submit({}, delay=3600)
    with opened(service, path.format(task_id)) as events:
        next(events)
        began = time.monotonic()
        web = service.system.supervisor.stop("web")
        stopped_s = time.monotonic() - began
        rest = list(events)
    service.system.supervisor.start(web)
    wait_until(lambda: is_up(service), 60, "the web is back")

    assert stopped_s < 8  # graceful_timeout is 20
    assert not [event for event in rest if event.task_id == task_id]


def is_up(service: Service) -> bool:
    with suppress(requests.RequestException):
        return requests.get(f"{service.system.url}/healthz", timeout=2).ok
    return False


def connect(service: Service, path: str, *, receive_bytes: int | None = None) -> socket.socket:
    """A client that has got the beginning of its stream."""
    client = socket.socket()
    if receive_bytes is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client.connect(("127.0.0.1", service.system.web_port))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert client.recv(15) == b"HTTP/1.1 200 OK"
    return client


def sockets(service: Service) -> int:
    """How many the web's processes have open."""
    web = service.system.supervisor.pid("web")
    children = Path(f"/proc/{web}/task/{web}/children").read_text().split()
    return sum(link.startswith("socket:") for pid in children for link in open_files(pid))


def open_files(pid: str) -> Iterator[str]:
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            yield str(descriptor.readlink())
