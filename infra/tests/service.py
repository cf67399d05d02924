"""The whole service on this machine, in its own virtual environment and on ports of its own, for tests of infra/.

Must not import it: the two environments hold different libraries.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.pages import ROOT

PYTHON = ROOT / ".venv" / "bin" / "python"

_RUN = """
import json, sys
from pathlib import Path
from taskservice.local.system import LocalSystem
with LocalSystem(Path(sys.argv[1]), env=json.loads(sys.argv[2]), say=lambda line: None) as system:
    print(system.url, flush=True)
    sys.stdin.read()
"""


def reason_to_skip() -> str:
    """Why the service cannot be had here; empty when it can."""
    if not PYTHON.exists():
        return "no .venv: `make test` makes the service's own"
    installed = "import sys; from taskservice.local.install import are_packages_installed as here; sys.exit(not here())"
    if subprocess.run([PYTHON, "-c", installed], cwd=ROOT, capture_output=True).returncode != 0:
        return "RabbitMQ and Redis are not installed: `make test` installs them"
    return ""


@contextmanager
def running_service(directory: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Its address; ready inside the block, ended after it."""
    command: list[str | Path] = [PYTHON, "-c", _RUN, str(directory), json.dumps(dict(environment))]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()  # empty when it ended instead
        assert url, f"the service did not start; its logs: {directory}"
        yield url
    finally:
        process.stdin.close()  # what it waits for
        process.wait(timeout=120)
        process.stdout.close()
