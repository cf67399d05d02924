"""The store as a primary, two replicas and three Sentinels: which Redis is used, and what is promised when.

Real processes on 127.0.0.1, killed, frozen and demoted on purpose.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import redis

from celery_config import make_celery
from taskservice.errors import Unavailable
from taskservice.local.ports import choose_port
from taskservice.model import Priority, Status, Submission, now
from taskservice.records import Attempts, Claim, Records
from taskservice.records.connection import NotReplicated
from taskservice.records.idempotency import Reservations
from taskservice.records.script import connect
from taskservice.settings import load_settings
from taskservice.worker.backend import RecordBackend
from tests.support.waiting import wait_until

PASSWORD = "of-redis"
SENTINEL_PASSWORD = "of-the-sentinels"
DOWN_AFTER_MS = 6000  # as cluster/sentinel.sh has it, and why


class Group:
    """One primary, two replicas, three Sentinels."""

    def __init__(self, folder: Path) -> None:
        self._server = shutil.which("redis-server") or pytest.fail("apt-get install redis-server")
        self._folder = folder
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self.redis_ports = [choose_port() for _ in range(3)]
        self.sentinel_ports = [choose_port() for _ in range(3)]

    def start(self) -> None:
        first, *others = self.redis_ports
        self.start_redis(first)
        for port in others:
            self.start_redis(port, f"replicaof 127.0.0.1 {first}")
        for port in self.sentinel_ports:
            lines = (
                f"sentinel monitor mymaster 127.0.0.1 {first} 2", f"sentinel auth-pass mymaster {PASSWORD}",
                f"sentinel down-after-milliseconds mymaster {DOWN_AFTER_MS}",
                "sentinel failover-timeout mymaster 10000", f"requirepass {SENTINEL_PASSWORD}",
            )  # fmt: skip
            self._start(port, lines, "--sentinel")
        wait_until(self.is_whole, 60, "every Sentinel knows two replicas in sync and the other Sentinels")

    def start_redis(self, port: int, *lines: str) -> None:
        common = (f"requirepass {PASSWORD}", f"masterauth {PASSWORD}", "appendonly yes", "repl-diskless-sync-delay 0")
        self._start(port, (*common, "min-replicas-to-write 1", *lines))

    def stop(self) -> None:
        for process in self._processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()

    @property
    def url(self) -> str:
        settings = load_settings(
            {
                "CELERY_RESULT_BACKEND": ";".join(f"sentinel://:{PASSWORD}@127.0.0.1:{p}" for p in self.sentinel_ports),
                "REDIS_SENTINEL_PASSWORD": SENTINEL_PASSWORD,
                "REDIS_REPLICAS_TO_WAIT_FOR": "1",
            }
        )
        return settings.result_backend

    @property
    def primary(self) -> int:
        """Its port, as the Sentinels say."""
        with self._sentinel(self.sentinel_ports[0]) as sentinel:
            return int(sentinel.sentinel_get_master_addr_by_name("mymaster")[1])

    @property
    def replicas(self) -> list[int]:
        return [port for port in self.redis_ports if port != self.primary]

    def signal(self, kind: signal.Signals, *ports: int) -> None:
        for port in ports:
            os.kill(self._processes[port].pid, kind)

    def bring_back(self, port: int) -> None:
        self._processes[port].wait()
        self.start_redis(port)
        wait_until(self.is_whole, 60, "the former primary is a replica")

    def fail_over(self) -> None:
        former = self.primary
        with self._sentinel(self.sentinel_ports[0]) as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", "mymaster")
        wait_until(lambda: self.primary != former, 30, "another primary")

    def is_whole(self) -> bool:
        try:
            return all(self._sees_all(port) for port in self.sentinel_ports)
        except redis.RedisError:
            return False

    def _sees_all(self, port: int) -> bool:
        with self._sentinel(port) as sentinel:
            (master,) = sentinel.sentinel_masters().values()
            replicas = sentinel.sentinel_slaves("mymaster")
        in_sync = [one for one in replicas if one["master-link-status"] == "ok" and not one["is_sdown"]]
        return len(in_sync) == 2 and master["num-other-sentinels"] == 2 and master["flags"] == "master"

    def _sentinel(self, port: int) -> redis.Redis:
        return redis.Redis(port=port, password=SENTINEL_PASSWORD, decode_responses=True, socket_timeout=2)

    def _start(self, port: int, lines: tuple[str, ...], *options: str) -> None:
        folder = self._folder / str(port)
        folder.mkdir(exist_ok=True)
        text = "\n".join([f"port {port}", "bind 127.0.0.1", f"dir {folder}", "save ''", *lines])
        if "--sentinel" in options:
            text = text.replace("\nsave ''", "")
        (folder / "redis.conf").write_text(text + "\n")
        command = [str(self._server), str(folder / "redis.conf"), *options, "--logfile", str(folder / "log")]
        self._processes[port] = subprocess.Popen(command)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    group = Group(tmp_path_factory.mktemp("sentinel"))
    try:
        group.start()
        yield group
    finally:
        group.stop()


@pytest.fixture
def group(started: Group) -> Group:
    wait_until(started.is_whole, 60, "the group is whole again")
    return started


def id_of(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def submission(name: str) -> Submission:
    return Submission(
        task_id=id_of(name), task_type="sleep", priority=Priority.NORMAL, parameters={}, created_at=now(), due_at=now(),
        expires_in_s=None, max_attempts=4,
    )  # fmt: skip


def test_the_store_is_the_primary_that_the_sentinels_name(group: Group) -> None:
    client = connect(group.url)

    client.set("whose", "the primary's")

    assert client.info("replication")["role"] == "master"
    with redis.Redis(port=group.replicas[0], password=PASSWORD, decode_responses=True) as replica:
        wait_until(lambda: replica.get("whose") == "the primary's", 5, "a replica has it")


def test_a_demoted_primary_is_left_for_the_new_one(group: Group) -> None:
    records = Records.connect(group.url, retention_s=60)
    records.accept(submission("before"))

    group.fail_over()
    wait_until(group.is_whole, 30, "the failover has ended")
    records.accept(submission("after"))

    assert records.get(id_of("before")) is not None
    with redis.Redis(port=group.primary, password=PASSWORD) as primary:
        assert primary.exists(*(f"task:{id_of(name)}" for name in ("before", "after"))) == 2


def test_what_no_replica_has_is_not_promised(group: Group) -> None:
    records = Records.connect(group.url, retention_s=60)
    records.accept(submission("replicated"))
    frozen = group.replicas

    group.signal(signal.SIGSTOP, *frozen)
    try:
        with pytest.raises(Unavailable):
            records.accept(submission("unreplicated"))
        with pytest.raises(Unavailable):  # it is there by now, and changes nothing: still nobody else has it
            records.accept(submission("unreplicated"))
    finally:
        group.signal(signal.SIGCONT, *frozen)

    wait_until(lambda: _accepts(records, "unreplicated"), 10, "a repetition is promised when a replica has it")


def test_many_and_transactions_wait_for_replicas_too(group: Group) -> None:
    client = connect(group.url)
    reservations, records = Reservations(client), Records(client, retention_s=60)
    reservations.reserve("key", fingerprint="f", task_id="t")
    frozen = group.replicas

    group.signal(signal.SIGSTOP, *frozen)
    try:
        with pytest.raises(redis.TimeoutError):
            client.set("one", "1")
        with pytest.raises(Unavailable):
            reservations.settle("key", {})
        with pytest.raises(Unavailable):
            records.accept_many([submission("many-1"), submission("many-2")])
        assert client.get("one") == "1"  # reading waits for nobody
    finally:
        group.signal(signal.SIGCONT, *frozen)


def test_a_primary_that_refuses_for_want_of_replicas_is_asked_again_later(group: Group) -> None:
    client = connect(group.url)
    reservations, records = Reservations(client), Records(client, retention_s=60)
    reservations.reserve("wanting", fingerprint="f", task_id="t")

    with redis.Redis(port=group.primary, password=PASSWORD) as primary:
        primary.config_set("min-replicas-to-write", 3)
        try:
            with pytest.raises(Unavailable):
                records.ping()
            with pytest.raises(Unavailable):
                records.accept_many([submission("wanting-1"), submission("wanting-2")])
            with pytest.raises(Unavailable):
                reservations.settle("wanting", {})
        finally:
            primary.config_set("min-replicas-to-write", 1)

    records.accept_many([submission("wanting-1"), submission("wanting-2")])
    reservations.settle("wanting", {})


def test_an_answer_that_comes_too_late_is_not_the_next_ones(group: Group) -> None:
    client = connect(group.url, timeout_s=0.5)
    client.set("asked-first", "first")
    client.set("asked-next", "next")
    primary = group.primary

    group.signal(signal.SIGSTOP, primary)
    try:
        with pytest.raises(redis.TimeoutError):
            client.get("asked-first")
        thaw = threading.Timer(0.2, group.signal, (signal.SIGCONT, primary))
        thaw.start()
        found = client.get("asked-next")
        thaw.join()
    finally:
        group.signal(signal.SIGCONT, primary)

    assert found == "next"


def test_celery_reads_and_stores_through_the_sentinels_and_prints_no_password(group: Group) -> None:
    settings = load_settings(
        {
            "CELERY_RESULT_BACKEND": f"sentinel://:{PASSWORD}@127.0.0.1:{group.sentinel_ports[0]}",
            "REDIS_SENTINEL_PASSWORD": SENTINEL_PASSWORD,
        }
    )
    Records.connect(settings.result_backend, retention_s=60).accept(submission("celerys"))

    celery = make_celery(settings, role="web")

    assert celery.AsyncResult(id_of("celerys")).state == "PENDING"
    backend = cast(RecordBackend, celery.backend)
    assert backend.client.exists(f"task:{id_of('celerys')}")
    assert PASSWORD not in backend.as_uri()


def test_nothing_promised_is_forgotten_when_the_primary_is_killed(group: Group) -> None:
    records = Records.connect(group.url, retention_s=60)
    attempts = Attempts.connect(group.url, retention_s=60)
    promised: list[str] = []
    ended = threading.Event()
    writers = [
        threading.Thread(target=_write, args=(number, records, attempts, promised, ended)) for number in range(4)
    ]
    former = group.primary
    for writer in writers:
        writer.start()
    try:
        wait_until(lambda: len(promised) >= 100, 30, "some are promised")

        group.signal(signal.SIGKILL, former)
        wait_until(lambda: group.primary != former, 30, "another primary")
        before = len(promised)
        wait_until(lambda: len(promised) >= before + 100, 30, "more are promised")
    finally:
        ended.set()
        for writer in writers:
            writer.join()
    group.bring_back(former)

    statuses = {task_id: _status(records, task_id) for task_id in promised}
    assert {task_id for task_id, status in statuses.items() if status is not Status.SUCCEEDED} == set()


def _accepts(records: Records, name: str) -> bool:
    try:
        records.accept(submission(name))
    except Unavailable:
        return False
    return True


def _write(number: int, records: Records, attempts: Attempts, promised: list[str], ended: threading.Event) -> None:
    """Whole lives of tasks, each as far as the store goes along."""
    count = 0
    while not ended.wait(0.005):
        count += 1
        one = submission(f"life-{number}-{count}")
        try:
            records.accept(one)
            if attempts.claim(one, attempt=1, worker="w", delivery="d").claim is Claim.GRANTED:
                attempts.succeed(one, delivery="d", attempt=1, result={})
                promised.append(one.task_id)
        except (Unavailable, redis.RedisError):
            continue


def _status(records: Records, task_id: str) -> Status | None:
    record = records.get(task_id)
    return None if record is None else record.status


def test_too_few_replicas_is_an_error_workers_wait_for(group: Group) -> None:
    """Celery's retry of a result asks `exception_safe_to_retry`, which every redis.RedisError satisfies."""
    assert issubclass(NotReplicated, redis.RedisError)
    assert make_celery(load_settings({}), role="worker").backend.exception_safe_to_retry(NotReplicated())
