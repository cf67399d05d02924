""".env.example, the two compose files and the settings name the same variables with the same defaults.

Must not start anything: it reads the files and load_settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from taskservice.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
ASSIGNMENT = re.compile(r"^(?P<name>[A-Z][A-Z0-9_]*)=(?P<value>.*)$")
INTERPOLATION = re.compile(r"\$\{(?P<name>[A-Z][A-Z0-9_]*):-(?P<default>[^}]*)\}")
COMPOSE_FILES = ("docker-compose.yml", "docker-compose.cluster.yml")
# Which .env.example leaves empty, and the containers refuse on any other address.
FOR_LOOPBACK = {("RABBITMQ_PASSWORD", "guest"), ("RABBITMQ_ERLANG_COOKIE", "only-for-loopback")}


class RecordingEnvironment(Mapping[str, str]):
    """An empty environment that remembers which names were asked for."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


LOGIN_OF_THE_BROKER = {"RABBITMQ_MANAGEMENT_URL"}  # it needs none of its own, so compose names the address


def read_example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    return {match["name"]: match["value"] for match in map(ASSIGNMENT.match, lines) if match}


def read_compose_files() -> str:
    return "".join((ROOT / name).read_text(encoding="utf-8") for name in COMPOSE_FILES)


def read_interpolations() -> set[tuple[str, str]]:
    text = read_compose_files()
    return {(match["name"], match["default"]) for match in INTERPOLATION.finditer(text)}


def names_the_settings_read() -> set[str]:
    environment = RecordingEnvironment()
    load_settings(environment)
    return environment.asked


def test_every_setting_and_every_compose_variable_is_in_the_example() -> None:
    settings = {name for name in names_the_settings_read() if not name.endswith("_FILE")}
    compose = {name for name, _ in read_interpolations()}

    assert set(read_example()) == settings | compose


def test_compose_passes_every_setting_on() -> None:
    settings = {name for name in names_the_settings_read() if not name.endswith("_FILE")}

    assert settings <= {name for name, _ in read_interpolations()}


def test_every_secret_that_may_come_from_a_file_is_marked_and_left_empty() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    from_files = {name.removesuffix("_FILE") for name in names_the_settings_read() if name.endswith("_FILE")}
    secrets = from_files - LOGIN_OF_THE_BROKER

    missing = {name for name in secrets if not re.search(rf"^# Secret\. .*\n{name}=$", text, re.MULTILINE)}

    assert secrets
    assert missing == set()


def test_every_variable_is_explained_on_the_line_above_it() -> None:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()

    unexplained = [
        line
        for above, line in pairwise(lines)
        if ASSIGNMENT.match(line) and not (above.startswith("# ") and not above.startswith("# ---"))
    ]

    assert unexplained == []


def test_the_example_states_the_defaults_of_compose() -> None:
    example = read_example()

    different = {(n, v) for n, v in read_interpolations() - FOR_LOOPBACK if example.get(n) != v}

    assert different == set()


def test_every_compose_variable_has_a_default() -> None:
    text = read_compose_files()

    without_default = re.findall(r"(?<!\$)\$(?:[A-Z_]+|\{[A-Z0-9_]+\})", text)

    assert without_default == ["${NAME}"]  # the heading's own example


def test_the_example_is_a_valid_environment() -> None:
    settings = load_settings(read_example())

    assert settings.broker_url == "amqp://guest:guest@rabbitmq:5672//"
    assert settings.result_backend == "redis://redis:6379/0"
    assert settings.binds_loopback_only


def test_docker_waits_longer_than_a_worker_takes_to_stop() -> None:
    example = read_example()

    grace_period_s = int(example["STOP_GRACE_PERIOD"].removesuffix("s"))

    assert grace_period_s >= int(example["SOFT_SHUTDOWN_TIMEOUT"]) + 10
