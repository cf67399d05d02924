"""Runs the Postman collection with newman against a system of its own: `make test-postman`.

newman comes from npm, in a version that is named here, into .newman/. Exits with newman's own code.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import requests

from taskservice.local.system import LocalSystem
from tests.support.receiver import receiving

ROOT = Path(__file__).resolve().parents[1]
COLLECTION = ROOT / "DOC" / "taskservice.postman_collection.json"
FOLDER = ROOT / ".newman"
NEWMAN = "newman@6.2.2"
RUN_TIMEOUT_S = 300
INSTALL_TIMEOUT_S = 300


def main() -> int:
    if shutil.which("npm") is None:
        print("npm is not installed: it brings newman, which runs the collection", file=sys.stderr)
        return 1
    command = _installed_newman()
    with (
        tempfile.TemporaryDirectory() as folder,
        receiving() as receiver,
        LocalSystem(Path(folder), private_ports=True, env={"WEBHOOKS_ALLOW_HTTP": "1"}) as system,
    ):
        variables = {"baseUrl": system.url, "callbackUrl": receiver.url()}
        options = [part for name, value in variables.items() for part in ("--env-var", f"{name}={value}")]
        ran = subprocess.run(
            [*command, "run", str(COLLECTION), "--bail", "--timeout-request", "40000", *options],
            timeout=RUN_TIMEOUT_S,
            check=False,
        )
        _watch_what_newman_left_out(system.url)
    return ran.returncode


def _installed_newman() -> list[str]:
    """Installed once; another version named above is another folder."""
    folder = FOLDER / NEWMAN.replace("@", "-")
    newman = folder / "node_modules" / ".bin" / "newman"
    if not newman.exists():
        folder.mkdir(parents=True, exist_ok=True)
        install = ["npm", "install", "--prefix", str(folder), "--no-fund", "--no-audit", "--loglevel=error", NEWMAN]
        subprocess.run(install, timeout=INSTALL_TIMEOUT_S, check=True)
    return [str(newman)]


def _watch_what_newman_left_out(url: str) -> None:
    """The stream without an end: newman would wait for it."""
    with requests.get(f"{url}/api/events", stream=True, timeout=10) as answer:
        lines = answer.iter_lines(decode_unicode=True)
        assert any(line == "event: snapshot" for _, line in zip(range(10), lines, strict=False))
    print("GET /api/events: began with a snapshot")


if __name__ == "__main__":
    sys.exit(main())
