"""Clients that send slowly, and bodies that are as large and laborious as may be: what others notice of them."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
import requests

from taskservice.api.streams import GRACE_S
from tests.support.service import Service

pytestmark = pytest.mark.usefixtures("unharmed")

HEAD = b"Host: localhost\r\nContent-Type: application/json\r\n"
MIB = 2**20
LIMIT_BYTES = 10 * MIB
NOTICED_S = 2.0  # what others may wait at most, on a machine that has other things to do too
HOSTILE = {
    "empty arrays": b"[]",
    "empty objects": b"{}",
    "small objects": b'{"a":1}',
    "numbers": b"1",
    "huge numbers": b"12345678901234567890",
    "empty texts": b'""',
    "surrogates": rb'"\ud83d\ude00"',
}


def test_a_body_that_trickles_is_408_and_ends_the_connection(target: Service) -> None:
    with connected(target) as client:
        client.sendall(b"POST /api/tasks HTTP/1.1\r\n" + HEAD + b"Content-Length: 1000\r\n\r\n")
        began = time.monotonic()
        answer = trickle(client, GRACE_S + 5)
        answer += ended(client, b" ")

    assert b" 408 " in answer.splitlines()[0]
    assert b'"error":"body_too_slow"' in answer.replace(b" ", b"")
    assert time.monotonic() - began < GRACE_S + 10


def test_a_chunked_body_that_trickles_does_not_become_a_request(target: Service) -> None:
    with connected(target) as client:
        client.sendall(b"POST /api/tasks HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n100\r\n")
        answer = trickle(client, GRACE_S + 5)
        rest = ended(client, b"\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert b" 408 " in answer.splitlines()[0]
    assert b"HTTP/1.1" not in rest


def test_who_is_refused_is_not_waited_for_long(target: Service) -> None:
    with connected(target) as client:
        client.sendall(b"POST /api/nothing HTTP/1.1\r\n" + HEAD + b"Content-Length: 1000\r\n\r\n")
        answer = trickle(client, 10)

    assert b" 404 " in answer.splitlines()[0]


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nX-Slow: "])
def test_a_head_that_does_not_end_ends_the_connection(target: Service, sent: bytes) -> None:
    with connected(target) as client:
        client.sendall(sent)
        began = time.monotonic()
        trickle(client, 10, byte=b"x" if sent else b"")

    assert time.monotonic() - began < 10


def test_sixty_large_bodies_at_once_need_little_memory(target: Service) -> None:
    web = web_processes(target)
    before = {one.pid: one.memory_info().rss for one in web}
    body = json.dumps({"tasks": [{"task_type": "data_processing", "parameters": {"data": "x" * (MIB - 200)}}] * 9})
    peak: dict[int, int] = {}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            for one in web:
                peak[one.pid] = max(peak.get(one.pid, 0), one.memory_info().rss - before[one.pid])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(60) as clients:
            answers = list(clients.map(lambda _: post(target, body.encode()), range(60)))
    finally:
        done.set()
        watcher.join()

    print(f"60 x 9 MiB: peak growth {[size // MIB for size in peak.values()]} MiB, {sorted(set(map(status, answers)))}")
    assert {one.status_code for one in answers} <= {202, 503}
    assert all("Retry-After" in one.headers and one.json()["outcome"] for one in answers if one.status_code == 503)
    assert max(peak.values()) < 256 * MIB


@pytest.mark.parametrize("name", HOSTILE)
def test_a_laborious_batch_keeps_nobody_waiting(target: Service, name: str) -> None:
    item = HOSTILE[name]
    body = b'{"tasks":[[' + b",".join([item] * ((LIMIT_BYTES - 100) // (len(item) + 1))) + b"]]}"
    sessions = [requests.Session() for _ in range(8)]  # of both web processes
    for one in sessions:
        one.get(f"{target.system.url}/healthz", timeout=10)
    longest_s = 0.0

    with ThreadPoolExecutor(1) as sender:
        answer = sender.submit(post, target, body)
        while not answer.done():
            for one in sessions:
                began = time.monotonic()
                one.get(f"{target.system.url}/healthz", timeout=10)
                longest_s = max(longest_s, time.monotonic() - began)

    print(f"{name}: {answer.result().elapsed.total_seconds():.1f} s, a health check waited {longest_s:.2f} s at most")
    assert answer.result().status_code == 422
    assert longest_s < NOTICED_S


@contextmanager
def connected(target: Service) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", target.system.web_port), timeout=10) as client:
        yield client


def trickle(client: socket.socket, limit_s: float, *, byte: bytes = b" ") -> bytes:
    """A byte now and then until there is an answer, or the end; fails when there is neither in time."""
    deadline = time.monotonic() + limit_s
    client.settimeout(0.2)
    while time.monotonic() < deadline:
        try:
            client.sendall(byte)
            return client.recv(2**16)
        except TimeoutError:
            continue
        except ConnectionError:
            return b""
    raise AssertionError(f"neither an answer nor an end after {limit_s} s")


def ended(client: socket.socket, sent: bytes) -> bytes:
    """What the server still says to this, until it closes."""
    client.settimeout(10)
    found = b""
    try:
        client.sendall(sent)
        while piece := client.recv(2**16):
            found += piece
    except ConnectionError:
        pass
    return found


def post(target: Service, body: bytes) -> requests.Response:
    url = f"{target.system.url}/api/tasks/batch"
    return requests.post(url, data=body, headers={"Content-Type": "application/json"}, timeout=60)


def status(answer: requests.Response) -> int:
    return answer.status_code


def web_processes(target: Service) -> list[Any]:
    return psutil.Process(target.system.supervisor.pid("web")).children()
