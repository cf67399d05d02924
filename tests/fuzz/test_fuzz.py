"""Random requests after the service's own description: whatever is sent, the answer is one that is described.

Must not know a route by name, except those that never end.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from taskservice.local.system import REPOSITORY, LocalSystem
from tests.conftest import WaitUntil
from tests.support.receiver import receiving

EXAMPLES = 100  # of each operation and phase: one to four minutes in all, as the seed will have it
TIME_LIMIT_S = 900
PROGRAMS = ("web", "worker-high", "worker-normal", "worker-low")
KEY_IN_FORCE_S = 20
NEVER_ENDING = "events$"  # a stream is no answer to wait for; tests/integration/test_live.py reads them


def test_every_answer_is_described_and_the_service_is_unharmed(
    fuzzed: LocalSystem, key: str, wait_until: WaitUntil, tmp_path: Path
) -> None:
    seed = int(os.environ.get("SEED") or random.randrange(2**32))
    wait_until(lambda: _status(fuzzed, "/api/task-types") == 401, KEY_IN_FORCE_S, "every web process asks for a key")
    time.sleep(5)  # the other web process learns of it within 5 s

    with receiving() as receiver:
        told = {"FUZZ_URL": fuzzed.url, "FUZZ_KEY": key, "FUZZ_CALLBACK": receiver.url(), "PYTHONPATH": str(REPOSITORY)}
        print(f"\nSEED={seed}; a key, and webhooks to {receiver.url()}", flush=True)
        command = _command(fuzzed, seed, tmp_path)
        ended = subprocess.run(command, env=os.environ | told, cwd=tmp_path, timeout=TIME_LIMIT_S)  # it leaves files

    assert ended.returncode == 0, f"not every answer was as described; SEED={seed} repeats it"
    assert {name: fuzzed.supervisor.deaths(name) for name in PROGRAMS} == dict.fromkeys(PROGRAMS, 0)
    assert _surprises(fuzzed) == []
    wait_until(lambda: _status(fuzzed, "/readyz") == 200, 30, "ready afterwards")
    description = requests.get(f"{fuzzed.url}/openapi.json", timeout=10).json()
    assert _unreached(tmp_path / "events.ndjson", description) == [], "each example was made true, and yet"


def _command(fuzzed: LocalSystem, seed: int, folder: Path) -> list[str]:
    options = {
        "--seed": str(seed),
        "--max-examples": str(EXAMPLES),
        "--exclude-path-regex": NEVER_ENDING,
        "--report-ndjson-path": str(folder / "events.ndjson"),
    }
    words = [word for option in options.items() for word in option]
    config = str(Path(__file__).with_name("schemathesis.toml"))
    run = ["-m", "schemathesis.cli", "--config-file", config, "run", f"{fuzzed.url}/openapi.json"]
    return [sys.executable, *run, *words]


def _status(fuzzed: LocalSystem, path: str) -> int:
    return requests.get(f"{fuzzed.url}{path}", timeout=10).status_code


def _surprises(fuzzed: LocalSystem) -> list[str]:
    """Whatever a program logged about an exception that nobody expected."""
    marks = ("Traceback (most recent call last)", "request.failed")
    return [
        f"{name}: {line}"
        for name in PROGRAMS
        for line in fuzzed.supervisor.log(name).read_text(errors="replace").splitlines()
        if any(mark in line for mark in marks)
    ]


def _unreached(report: Path, description: dict[str, Any]) -> list[str]:
    """Operations that never answered 2xx."""
    described = {f"{method.upper()} {path}" for path, methods in description["paths"].items() for method in methods}
    done = {operation for operation, status in _answers(report) if 200 <= status < 300}
    return sorted(one for one in described - done if not re.search(NEVER_ENDING, one))


def _answers(report: Path) -> Iterator[tuple[str, int]]:
    for line in report.read_text(encoding="utf-8").splitlines():
        scenario: dict[str, Any] = json.loads(line).get("ScenarioFinished", {})
        recorder = scenario.get("recorder") or {}
        for case_id, interaction in recorder.get("interactions", {}).items():
            value = recorder["cases"][case_id]["value"]
            if interaction.get("response"):
                yield f"{value['method']} {value['path']}", int(interaction["response"]["status_code"])
