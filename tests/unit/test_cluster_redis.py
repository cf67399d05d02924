"""How a Redis of the cluster starts: the real script; small programs play the other machines and the clock."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "cluster" / "redis.sh"
PATIENCE_S = 60
FOLLOWED = "role:slave\r\nmaster_host:redis-1\r\nmaster_link_status:down\r\nmaster_link_down_since_seconds:3\r\n"
NEVER_IN_SYNC = FOLLOWED.replace("seconds:3", "seconds:-1")
FOLLOWS_ANOTHER = FOLLOWED.replace("redis-1", "redis-2")

PLAYED = {
    "redis-cli": 'case "$*" in *get-master*) cat "$STAGE/primary" ;; *) cat "$STAGE/replication" ;; esac',
    "sleep": 'echo >> "$STAGE/slept"; [ "$(wc -l < "$STAGE/slept")" -ne 3 ] || cp "$STAGE/later" "$STAGE/primary"',
    "docker-entrypoint.sh": "",  # it would become Redis
}


@dataclass
class Stage:
    """One machine, whose Redis is redis-1 and was the primary before the cluster first ran."""

    folder: Path

    @property
    def conf(self) -> Path:
        return self.folder / "node.conf"

    def start(self, *, primary: str, later: str = "", replication: str = "", host: str = "redis-1") -> None:
        """`primary`: what Sentinel names now; `later`: after three seconds; `replication`: what the peers say."""
        texts = {"primary": primary, "later": later or primary, "replication": replication, "slept": ""}
        for name, text in texts.items():
            (self.folder / name).write_text(text)
        script = SCRIPT.read_text().replace("/data/node.conf", str(self.conf))
        subprocess.run(["sh", "-c", script], env=self._environment(host), check=True, timeout=30)

    @property
    def waited_s(self) -> int:
        return len((self.folder / "slept").read_text().splitlines())

    def _environment(self, host: str) -> dict[str, str]:
        return {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "STAGE": str(self.folder),
            "SELF": host,
            "FIRST_PRIMARY": "redis-1",
            "SENTINELS": "sentinel-1 sentinel-2",
            "PEERS": "redis-2 redis-3",
            "REDIS_SENTINEL_MASTER": "mymaster",
            "REDIS_PASSWORD": "a-password",
            "REDIS_APPENDFSYNC": "everysec",
        }


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    for name, commands in PLAYED.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{commands}\n")
        program.chmod(0o755)
    return Stage(tmp_path)


def test_the_first_primary_starts_at_once(stage: Stage) -> None:
    stage.start(primary="")

    assert (stage.conf.read_text(), stage.waited_s) == ("", 0)


def test_every_other_one_starts_as_its_replica(stage: Stage) -> None:
    stage.start(primary="", host="redis-2")

    assert (stage.conf.read_text(), stage.waited_s) == ("replicaof redis-1 6379\n", 0)


def test_a_former_primary_follows_the_one_that_took_over_meanwhile(stage: Stage) -> None:
    stage.start(primary="10.0.0.22\n6379\n")

    assert (stage.conf.read_text(), stage.waited_s) == ("replicaof 10.0.0.22 6379\n", 0)


def test_a_primary_that_was_followed_waits_until_another_takes_over(stage: Stage) -> None:
    stage.start(primary="", later="10.0.0.22\n6379\n", replication=FOLLOWED)

    assert (stage.conf.read_text(), stage.waited_s) == ("replicaof 10.0.0.22 6379\n", 3)


def test_a_primary_that_nobody_replaces_starts_after_a_minute(stage: Stage) -> None:
    stage.start(primary="", replication=FOLLOWED)

    assert (stage.conf.read_text(), stage.waited_s) == ("", PATIENCE_S)


@pytest.mark.parametrize("replication", [NEVER_IN_SYNC, FOLLOWS_ANOTHER, "role:master\r\n", ""])
def test_a_primary_whose_peers_can_have_nothing_more_does_not_wait(stage: Stage, replication: str) -> None:
    stage.start(primary="", replication=replication)

    assert stage.waited_s == 0
