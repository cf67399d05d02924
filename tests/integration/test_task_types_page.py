"""DOC/task-types.md, “A type of your own”, followed to the letter: its files, its commands, the answers it shows.

Must not know the type: everything is taken from the page.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskservice.local.system import LocalSystem

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "DOC" / "task-types.md"
SECTION = "## A type of your own"
SHOWN_URL = "http://localhost:5000"

_BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    language: str
    filename: str  # empty: it is no file
    text: str

    @property
    def starts_the_service(self) -> bool:
        return self.language == "bash" and self.text.strip().endswith("make run")


@dataclass(slots=True)
class Reader:
    """Does what the page says, in its order; a shell's variables last from one block to the next."""

    home: Path
    url: str = SHOWN_URL
    said: str = ""  # by the last command
    environment: dict[str, str] = field(default_factory=dict)

    def save(self, block: Block) -> None:
        (Path(self.environment["TYPES"]) / block.filename).write_text(block.text, encoding="utf-8")

    def run(self, block: Block) -> None:
        kept = self.home / "environment"
        commands = block.text.replace(SHOWN_URL, self.url)
        script = f"set -eo pipefail -o allexport\n{commands}\nenv -0 > {shlex.quote(str(kept))}"
        ran = subprocess.run(
            ["bash", "-c", script],
            cwd=ROOT,
            env={**os.environ, **self.environment, "HOME": str(self.home)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, f"{block.text}\n{ran.stdout}\n{ran.stderr}"
        self.said = ran.stdout
        variables = (line.partition("=") for line in kept.read_text(encoding="utf-8").split("\0") if line)
        self.environment = {name: value for name, _, value in variables if name in {"TYPES", "TASK_ID"}}

    def settings_of(self, block: Block) -> dict[str, str]:
        """The assignments before `make run`."""
        line = block.text.replace("$TYPES", self.environment["TYPES"])
        pairs = (word.partition("=") for word in shlex.split(line) if "=" in word)
        return {name: value for name, _, value in pairs}


def test_the_walk_works_as_the_page_says(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    checked = 0

    with ExitStack() as running:
        for block in _blocks():
            if block.starts_the_service:
                system = LocalSystem(tmp_path / "system", private_ports=True, env=reader.settings_of(block))
                reader.url = running.enter_context(system).url
            elif block.filename:
                reader.save(block)
            elif block.language == "bash":
                reader.run(block)
            else:
                _assert_shown(block, reader.said)
                checked += 1

    assert reader.url != SHOWN_URL
    assert checked >= 5


def test_the_override_for_docker_names_every_service_that_needs_the_module() -> None:
    (override,) = [block.text for block in _blocks() if block.language == "yaml"]
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")

    named = set(re.findall(r"^  ([\w-]+): \*types$", override, re.MULTILINE))

    assert named == {name for name in re.findall(r"^  ([\w-]+):$", compose, re.MULTILINE) if _needs_types(name)}


def _blocks() -> Iterator[Block]:
    section = PAGE.read_text(encoding="utf-8").partition(SECTION)[2]
    for found in _BLOCK.finditer(section):
        yield Block(*found.groups())


def _assert_shown(block: Block, said: str) -> None:
    """JSON: at least what is shown; anything else: exactly that."""
    if block.language == "json":
        _assert_within(json.loads(block.text), json.loads(said))
    else:
        assert said == block.text


def _assert_within(shown: Any, whole: Any) -> None:
    if isinstance(shown, Mapping):
        for name, value in shown.items():
            _assert_within(value, whole[name])
    else:
        assert shown == whole


def _needs_types(service: str) -> bool:
    return service == "web" or service.startswith("worker-")
