"""`make env`: fresh secrets, kept from others, never over a file that is there."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from taskservice.errors import ConfigurationError
from taskservice.local.env import EnvRefused, write_env
from taskservice.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / ".env.example"
COOKIE = "RABBITMQ_ERLANG_COOKIE"
SECRETS = ("RABBITMQ_PASSWORD", "REDIS_PASSWORD", "REDIS_SENTINEL_PASSWORD", "FLOWER_BASIC_AUTH", COOKIE)


def read(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([A-Z][A-Z0-9_]*)=(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE))


def write(folder: Path, **wanted: str) -> tuple[dict[str, str], str]:
    said = write_env(folder / ".env", example=EXAMPLE, wanted=wanted)
    return read(folder / ".env"), said


def test_every_secret_is_fresh_and_the_rest_is_the_example(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    values, _ = write(tmp_path)
    others, _ = write(tmp_path / "other")
    example = read(EXAMPLE)

    changed = {name for name in values if values[name] != example.get(name)}

    assert changed == {*SECRETS, "RABBITMQ_USER"}
    assert all(values[name] != others[name] for name in SECRETS)
    assert all(re.fullmatch(r"(flower:)?[0-9a-f]{40}", values[name]) for name in SECRETS)


def test_comments_of_the_example_are_kept(tmp_path: Path) -> None:
    write(tmp_path)
    text = (tmp_path / ".env").read_text(encoding="utf-8")

    comments = [line for line in EXAMPLE.read_text(encoding="utf-8").splitlines() if line.startswith("#")]

    assert [line for line in text.splitlines() if line.startswith("#")][: len(comments)] == comments


def test_every_secret_that_a_compose_file_takes_is_set(tmp_path: Path) -> None:
    values, _ = write(tmp_path)
    asked = {
        name
        for file in ROOT.glob("docker-compose*.yml")
        for name in re.findall(r"\$\{(\w+(?:PASSWORD|COOKIE|BASIC_AUTH)):", file.read_text(encoding="utf-8"))
    } - {"SMTP_PASSWORD"}  # the mail server's own

    assert {name for name in asked if not values.get(name)} == set()


def test_the_service_can_read_it(tmp_path: Path) -> None:
    values, _ = write(tmp_path, BIND_ADDRESS="0.0.0.0", TRUSTED_PROXIES="1")

    settings = load_settings(values)

    assert settings.broker_url == f"amqp://taskservice:{values['RABBITMQ_PASSWORD']}@rabbitmq:5672//"
    assert (settings.bind_address, settings.trusted_proxies) == ("0.0.0.0", 1)


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    write(tmp_path)

    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_a_file_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("mine")

    with pytest.raises(EnvRefused, match="FORCE=1"):
        write(tmp_path)

    assert (tmp_path / ".env").read_text() == "mine"


def test_force_keeps_a_copy_that_git_ignores(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("mine")

    _, said = write(tmp_path, FORCE="1")
    (copy,) = tmp_path.glob(".env.*")
    ignored = subprocess.run(["git", "check-ignore", "-q", copy.name], cwd=ROOT, check=False)

    assert copy.read_text() == "mine"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert copy.name in said
    assert ignored.returncode == 0
    assert set(SECRETS) <= set(read(tmp_path / ".env"))


@pytest.mark.parametrize(
    ("wanted", "refusal", "named"),
    [
        ({"BIND_ADRESS": "0.0.0.0"}, EnvRefused, "BIND_ADRESS"),
        ({"BIND_ADDRESS": "here"}, ConfigurationError, "BIND_ADDRESS"),
        ({"BIND_ADDRESS": "here", "FORCE": "1"}, ConfigurationError, "BIND_ADDRESS"),
    ],
)
def test_a_setting_that_is_wrong_writes_nothing(
    tmp_path: Path, wanted: dict[str, str], refusal: type[Exception], named: str
) -> None:
    (tmp_path / ".env").write_text("mine")

    with pytest.raises(refusal, match=named):
        write(tmp_path, **wanted)

    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_what_it_says_names_the_next_step_and_no_secret(tmp_path: Path) -> None:
    values, said = write(tmp_path)

    assert "keys create" in said
    assert not any(values[name].removeprefix("flower:") in said for name in SECRETS)


def test_make_env_writes_it_beside_the_compose_file(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "taskservice", folder := tmp_path / "taskservice")
    for name in ("Makefile", ".env.example", "requirements.txt", "requirements-dev.txt"):
        shutil.copy2(ROOT / name, folder.parent)
    (folder.parent / ".venv").symlink_to(ROOT / ".venv")
    command = ["make", "--no-print-directory", "env", "BIND_ADDRESS=10.1.2.3"]

    first = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, timeout=60, check=False)
    second = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, timeout=60, check=False)
    quoted = subprocess.run([*command, "SMTP_FROM=a b"], cwd=folder.parent, capture_output=True, text=True, check=False)

    assert first.returncode == 0, first.stderr
    assert read(folder.parent / ".env")["BIND_ADDRESS"] == "10.1.2.3"
    assert second.returncode != 0
    assert "make env: .env exists" in second.stderr
    assert "SMTP_FROM: this value needs quotes" in quoted.stderr
