"""The shell scripts: shellcheck finds nothing, user data is a script, and what they promise about files holds.

Must not run anything as root.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fleet import user_data

INFRA = Path(__file__).resolve().parents[1]
SCRIPTS = sorted([*INFRA.glob("instance/*.sh"), *INFRA.glob("fleet/boot/*.sh"), *INFRA.glob("tests/*.sh")])
SITE = user_data.Site(region="ap-southeast-1", parameter_path="/taskservice/test/service", broker_hosts=("b-1", "b-2"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    _shellcheck(str(script))


@pytest.mark.parametrize(
    "text",
    [
        user_data.broker(SITE, host="b-1", image="rabbitmq:4-management", metric_namespace="x", data_volume="vol-1"),
        user_data.store(SITE, image="redis:8"),
        user_data.web(SITE, image="taskservice", environment={"SMTP_HOST": "mail's $(host)"}),
        user_data.worker(
            SITE, image="taskservice", environment={}, name="high", queues=("high_priority",), concurrency=4
        ),
    ],
    ids=["broker", "store", "web", "worker"],
)
def test_rendered_user_data_is_a_sound_script(text: str, tmp_path: Path) -> None:
    script = tmp_path / "user-data.sh"
    script.write_text(text)

    _shellcheck("--exclude=SC2016,SC2034", str(script))  # values are quoted whole, and no role uses every variable

    assert text.startswith("#!/bin/bash\n")


def test_a_value_reaches_the_script_as_it_is() -> None:
    odd = "it's $HOME `date` \\ \""

    text = user_data.store(SITE, image=odd).partition("\n# What every machine")[0]
    shell = subprocess.run(
        ["bash", "-c", f'{text}\nprintf %s "$STORE_IMAGE"'], capture_output=True, text=True, check=True
    )

    assert shell.stdout == odd


def test_a_value_with_a_line_break_is_refused() -> None:
    with pytest.raises(ValueError, match="line break"):
        user_data.web(SITE, image="taskservice", environment={"SMTP_FROM": "a\nb=c"})


def _shellcheck(*arguments: str) -> None:
    command = Path(sys.executable).with_name("shellcheck")
    result = subprocess.run([command, "-x", *arguments], capture_output=True, text=True, cwd=INFRA)
    assert result.returncode == 0, result.stdout
