"""Accepted and finished tasks a second with Redis' file on disk every second and before each answer: the ratio counts.

Run: `python -m benchmarks.redis_fsync`. Needs RabbitMQ and Redis installed.
"""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import redis

from benchmarks.web_concurrency import CLIENTS, SECONDS, submit_until
from taskservice.local.system import LocalSystem

ROUNDS = 5
POLICIES = ("everysec", "always")
WHAT = ("accepted", "finished")


def main() -> None:
    rates: dict[str, list[tuple[float, float]]] = {policy: [] for policy in POLICIES}
    with tempfile.TemporaryDirectory() as data_dir, LocalSystem(Path(data_dir), private_ports=True) as system:
        port = urlsplit(system.url).port
        assert port is not None
        with redis.Redis.from_url(system.result_backend, decode_responses=True) as client:
            for number in range(ROUNDS):
                for policy in POLICIES if number % 2 else reversed(POLICIES):
                    client.config_set("appendfsync", policy)
                    rates[policy].append(measure(port, client))
    for place, what in enumerate(WHAT):
        for policy, found in rates.items():
            print(f"{policy:<8} {median(one[place] for one in found):6.0f} {what}/s")
        ratios = [a[place] / b[place] for a, b in zip(rates["always"], rates["everysec"], strict=True)]
        print(f"always / everysec, {what}: {median(ratios):.2f}  (rounds: {', '.join(f'{one:.2f}' for one in ratios)})")


def measure(port: int, client: redis.Redis) -> tuple[float, float]:
    """What was accepted, and what was finished, a second, while CLIENTS clients submit; then all is let finish."""
    finished_before = count_finished(client)
    until = time.monotonic() + SECONDS
    with ThreadPoolExecutor(CLIENTS) as clients:
        accepted = sum(clients.map(submit_until(port), [until] * CLIENTS))
    finished = count_finished(client) - finished_before
    while count_finished(client) - finished_before < accepted:
        time.sleep(0.2)
    return accepted / SECONDS, finished / SECONDS


def count_finished(client: redis.Redis) -> int:
    counters = client.hgetall("counters")
    return sum(int(count) for name, count in counters.items() if str(name).startswith("succeeded:"))


if __name__ == "__main__":
    main()
