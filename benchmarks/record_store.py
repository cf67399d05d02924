"""What a record costs in Redis, and how long a filtered page takes among many of them.

Run: `python -m benchmarks.record_store --records 100000`. Needs Redis installed; starts one of its own.
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from taskservice.local.ports import choose_port
from taskservice.local.stores import PrivateStore
from taskservice.local.supervisor import Supervisor
from taskservice.model import Priority, Status, Submission, TaskFilter, now
from taskservice.records import Attempts, Records, TaskIndex

TYPES = ("data_processing", "email_sending", "file_processing")
PARAMETERS = {"data": "The quick brown fox jumps over the lazy dog."}
RESULT = {"characters": 44, "words": 9, "lines": 1, "unique_words": 9, "top_words": [["the", 2], ["quick", 1]]}
RETENTION_S = 86_400
REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    count = parser.parse_args().records
    with private_redis() as records:
        attempts, index = Attempts(records.client, retention_s=RETENTION_S), TaskIndex(records.client)
        empty = memory_bytes(records)
        fill(records, attempts, count)
        kept = memory_bytes(records)
        print(f"{count} records, 9 of 10 succeeded, 1 of 10 with two tags: {(kept - empty) / count:.0f} bytes each")
        print_pages(records, index)
        forget_all(records, count)
        left = memory_bytes(records) - empty
        print(f"after their retention: {left / count:.1f} bytes each, {records.client.dbsize()} keys")


@contextmanager
def private_redis() -> Iterator[Records]:
    with tempfile.TemporaryDirectory() as folder:
        store = PrivateStore(Path(folder), choose_port(), embedded=False)
        store.prepare()
        supervisor = Supervisor(Path(folder) / "logs")
        supervisor.start(store.program())
        try:
            store.wait_until_ready()
            yield Records.connect(store.url(0), retention_s=RETENTION_S, timeout_s=60)
        finally:
            supervisor.stop_all()


def fill(records: Records, attempts: Attempts, count: int) -> None:
    """Each through the service's own transitions."""
    chance = random.Random(1)
    began = time.monotonic()
    for number in range(count):
        moment = now()
        submission = Submission(
            task_id=str(uuid.uuid4()),
            task_type=chance.choice(TYPES),
            priority=chance.choice(list(Priority)),
            parameters=PARAMETERS,
            created_at=moment,
            due_at=moment,
            max_attempts=4,
            tags=("common", f"rare-{number}") if number % 10 == 0 else (),
        )
        records.accept(submission)
        if number % 10 == 9:
            continue
        attempts.claim(submission, attempt=1, worker="normal@benchmark", delivery="d")
        attempts.succeed(submission, delivery="d", attempt=1, result=RESULT)
    print(f"filled in {time.monotonic() - began:.0f} s")


def print_pages(records: Records, index: TaskIndex) -> None:
    """The first page of 50, read as GET /api/tasks does, for each filter and each pair of them."""
    middle = now()
    choices: dict[str, list[dict[str, Any]]] = {
        "status": [{"statuses": frozenset({one})} for one in (Status.SUCCEEDED, Status.QUEUED, Status.CANCELLED)],
        "task_type": [{"task_type": TYPES[0]}, {"task_type": "nobody_has"}],
        "priority": [{"priority": Priority.HIGH}],
        "tag": [{"tag": "common"}, {"tag": "rare-0"}, {"tag": "nobody_has"}],
        "created": [{"created_before": middle}, {"created_after": middle}],
    }
    slowest_ms: dict[str, float] = {"none": page_ms(records, index, {})}
    for size in (1, 2):
        for names in itertools.combinations(choices, size):
            for parts in itertools.product(*(choices[name] for name in names)):
                wanted = {name: value for part in parts for name, value in part.items()}
                key = " + ".join(names)
                slowest_ms[key] = max(slowest_ms.get(key, 0.0), page_ms(records, index, wanted))
    for key, took_ms in slowest_ms.items():
        print(f"page of 50, filter {key:<22} {took_ms:6.1f} ms")


def page_ms(records: Records, index: TaskIndex, wanted: dict[str, Any]) -> float:
    """Median of some; of the slowest value of a filter."""
    found = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        records.get_many(index.page(TaskFilter(**wanted), limit=50).task_ids)
        found.append((time.perf_counter() - began) * 1000)
    return median(found)


def forget_all(records: Records, count: int) -> None:
    """As if the retention had passed for all that is final; what is not final is cancelled first."""
    index = TaskIndex(records.client)
    queued = TaskFilter(statuses=frozenset({Status.QUEUED}))
    while page := index.page(queued, limit=1000).task_ids:
        for task_id in page:
            records.cancel(task_id)
    short = Attempts(records.client, retention_s=0)
    for final_id in records.client.zrange("expiring", 0, -1):
        records.client.zadd("expiring", {str(final_id): 1})
    for _ in range(0, count, 200):
        short.sweep(may_judge_leases=True)


def memory_bytes(records: Records) -> int:
    info: dict[str, Any] = records.client.info("memory")
    return int(info["used_memory"])


if __name__ == "__main__":
    main()
