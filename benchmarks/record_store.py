"""What a record costs in Redis, and how long a filtered page takes among many of them.

Run: `python -m benchmarks.record_store --records 20000 --copies 49`. Needs Redis installed; starts one of its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from taskservice.api import views
from taskservice.local.ports import choose_port
from taskservice.local.stores import PrivateStore
from taskservice.local.supervisor import Supervisor
from taskservice.model import Priority, Status, Submission, TaskFilter, now
from taskservice.moments import Moments
from taskservice.records import Attempts, Records, TaskIndex
from taskservice.records.script import Transitions, creation

TYPES = ("data_processing", "email_sending", "file_processing")
PARAMETERS = {"data": "The quick brown fox jumps over the lazy dog."}
RESULT = {"characters": 44, "words": 9, "lines": 1, "unique_words": 9, "top_words": [["the", 2], ["quick", 1]]}
RETENTION_S = 86_400
MOMENTS = Moments()
REPEATS = 5
Timing = tuple[float, float]
LIMIT = 50
AT_ONCE = 500
CLAIM = {"attempt": 1, "worker": "normal@benchmark", "delivery": "d"}
SUCCESS = {"delivery": "d", "result": json.dumps(RESULT)}

COPY = """
for place = 2, #ARGV do
  local id, key = ARGV[place], 'task:' .. ARGV[place]
  local got = redis.call('HMGET', key, 'status', 'type', 'priority', 'score', 'tags')
  for number = 1, tonumber(ARGV[1]) do
    local twin = string.format('%s%012x', string.sub(id, 1, 24), number * 1000003)
    local score = string.format('%.0f', tonumber(got[4]) - number * 4096 * 60007)
    local at = got[1] .. ':' .. got[2] .. ':' .. got[3]
    redis.call('COPY', key, 'task:' .. twin)
    redis.call('HSET', 'task:' .. twin, 'score', score)
    redis.call('ZADD', 'cell:' .. at, score, twin)
    for _, tag in ipairs(cjson.decode(got[5] or '[]')) do
      redis.call('ZADD', 'tagged:' .. at .. ':' .. tag, score, twin)
    end
  end
end
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--copies", type=int, default=0, help="of each record, put into the index as the script does")
    arguments = parser.parse_args()
    count = arguments.records
    with private_redis() as records:
        index = TaskIndex(records.client)
        empty = memory_bytes(records)
        fill(records, count)
        kept = memory_bytes(records)
        print(f"{count} records, 9 of 10 succeeded, 1 of 10 with two tags: {(kept - empty) / count:.0f} bytes each")
        copy_all(records, arguments.copies)
        print_pages(records, index)
        if arguments.copies:
            return
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


def fill(records: Records, count: int) -> None:
    """Each through the service's own transitions, many in one round trip."""
    chance = random.Random(1)
    transitions = Transitions(records.client, retention_s=RETENTION_S)
    began = time.monotonic()
    for start in range(0, count, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, count))
        submissions = {number: submission(number, chance) for number in numbers}
        records.accept_many(list(submissions.values()))
        run = [one for number, one in submissions.items() if number % 10 != 9]
        transitions.run_many(
            "claim", {one.task_id: CLAIM | {"queue": one.priority.queue} | created(one) for one in run}
        )
        transitions.run_many("succeed", {one.task_id: SUCCESS for one in run})
    print(f"filled in {time.monotonic() - began:.0f} s")


def copy_all(records: Records, copies: int) -> None:
    """A million transitions take half an hour; copies of their outcome, each a little older, make the same index."""
    copy = records.client.register_script(COPY)
    ids = [str(key).removeprefix("task:") for key in records.client.scan_iter("task:*", count=1000)]
    began = time.monotonic()
    for start in range(0, len(ids), AT_ONCE):
        copy(keys=[], args=[copies, *ids[start : start + AT_ONCE]])
    if copies:
        print(f"{len(ids) * (copies + 1)} records after {time.monotonic() - began:.0f} s of copying")


def submission(number: int, chance: random.Random) -> Submission:
    moment, sequence = MOMENTS.take()
    return Submission(
        task_id=str(uuid.uuid4()),
        task_type=chance.choice(TYPES),
        priority=chance.choice(list(Priority)),
        parameters=PARAMETERS,
        created_at=moment,
        due_at=moment,
        max_attempts=4,
        tags=("common", f"rare-{number}") if number % 10 == 0 else (),
        sequence=sequence,
    )


def created(one: Submission) -> dict[str, Any]:
    return {"creation": creation(one)}


def print_pages(records: Records, index: TaskIndex) -> None:
    """The first page of 50, read and shown as GET /api/tasks does, for each filter and each pair of them."""
    middle = now()
    choices: dict[str, list[dict[str, Any]]] = {
        "status": [{"statuses": frozenset({one})} for one in (Status.SUCCEEDED, Status.QUEUED, Status.CANCELLED)],
        "task_type": [{"task_type": TYPES[0]}, {"task_type": "nobody_has"}],
        "priority": [{"priority": Priority.HIGH}],
        "tag": [{"tag": "common"}, {"tag": "rare-0"}, {"tag": "nobody_has"}],
        "created": [{"created_before": middle}, {"created_after": middle}],
    }
    slowest: dict[str, Timing] = {"none": page_timing(records, index, {})}
    for size in (1, 2):
        for names in itertools.combinations(choices, size):
            for parts in itertools.product(*(choices[name] for name in names)):
                wanted = {name: value for part in parts for name, value in part.items()}
                key = " + ".join(names)
                slowest[key] = max(slowest.get(key, (0.0, 0.0)), page_timing(records, index, wanted))
    for key, (best_ms, median_ms) in slowest.items():
        print(f"page of {LIMIT}, filter {key:<22} {best_ms:6.1f} ms, median {median_ms:6.1f} ms")


def page_timing(records: Records, index: TaskIndex, wanted: dict[str, Any]) -> Timing:
    """Best and median of some; of a filter's values, the slowest counts. The best is what a quiet machine takes."""
    found = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        task_ids = index.page(TaskFilter(**wanted), limit=LIMIT).task_ids
        records.sizes_bytes(task_ids)
        [views.task(record).model_dump() for record in records.get_many(task_ids)]
        found.append((time.perf_counter() - began) * 1000)
    return min(found), median(found)


def forget_all(records: Records, count: int) -> None:
    """As if the retention had passed for all that is final; the rest is cancelled first, and its messages met."""
    index = TaskIndex(records.client)
    queued = TaskFilter(statuses=frozenset({Status.QUEUED}))
    transitions = Transitions(records.client, retention_s=RETENTION_S)
    while page := index.page(queued, limit=1000).task_ids:
        records.cancel_many(page)
        transitions.run_many("claim", dict.fromkeys(page, CLAIM))
    short = Attempts(records.client, retention_s=0)
    records.client.zunionstore("expiring", {"expiring": 0})  # due since 1970
    for _ in range(0, count, 200):
        short.forget()


def memory_bytes(records: Records) -> int:
    info: dict[str, Any] = records.client.info("memory")
    return int(info["used_memory"])


if __name__ == "__main__":
    main()
