"""Machines for the tests: containers in which systemd and Docker run, on one private network.

Must not leave anything behind: containers, volumes and the network are removed at the end.
"""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_IMAGE = "taskservice-test-machine"
_FILLER_IMAGE = "taskservice-test-filler"
_BASES = ("debian:13", "standin-debian:trixie")
PUBLIC_IMAGES = ("python:3.13-slim", "rabbitmq:4-management", "redis:8", "axllent/mailpit:v1.27")
# What Docker inside needs, and no more: --privileged would give it the whole host.
_RIGHTS = (
    "--cap-add=SYS_ADMIN",
    "--cap-add=NET_ADMIN",
    "--cap-add=SYS_PTRACE",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--security-opt=systempaths=unconfined",
    "--tmpfs=/run",
    "--volume=/sys/fs/cgroup:/sys/fs/cgroup",
)


@dataclass(frozen=True, slots=True)
class Machine:
    container: str
    address: str

    def run(self, script: str, *, timeout_s: float = 600, stdin: bytes | None = None) -> str:
        """What the script printed, both streams. Raises AssertionError with it when the script fails."""
        status, output = self.attempt(script, timeout_s=timeout_s, stdin=stdin)
        assert status == 0, f"exit status {status} of:\n{script}\n{output[-4000:]}"
        return output

    def attempt(self, script: str, *, timeout_s: float = 600, stdin: bytes | None = None) -> tuple[int, str]:
        command = ["docker", "exec", "-i", self.container, "bash", "-c", f"exec 2>&1\n{script}"]
        result = subprocess.run(command, input=stdin or b"", stdout=subprocess.PIPE, timeout=timeout_s)
        return result.returncode, result.stdout.decode(errors="replace").strip()

    def write(self, path: str, text: str) -> None:
        self.run(f"cat > {path}", stdin=text.encode())

    def copy(self, source: Path, target: str) -> None:
        docker("cp", str(source), f"{self.container}:{target}")

    def restart(self) -> None:
        """As close to a reboot as a container gets: every process ends, the disk stays."""
        docker("restart", "--time", "120", self.container, timeout_s=180)


class Site:
    """One private network and the machines on it."""

    def __init__(self) -> None:
        self._name = f"taskservice-test-{uuid.uuid4().hex[:8]}"
        self._containers: list[str] = []
        self._volumes: list[str] = []
        docker("network", "create", self._name)
        _build_machine_images()

    @property
    def gateway(self) -> str:
        """This host's address on the network."""
        return docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", self._name)

    def add(self, name: str, *, alias: str = "", images: tuple[str, ...] = PUBLIC_IMAGES) -> Machine:
        """A clean machine that is up. Its Docker, once installed, has the images, as if it had fetched them."""
        volume = self._filled_volume(name, images)
        return self._start(name, volume, alias=alias)

    def close(self) -> None:
        for container in self._containers:
            docker("rm", "--force", "--volumes", container)
        for volume in self._volumes:
            docker("volume", "rm", volume)
        docker("network", "rm", self._name)

    def run_image(self, name: str, image: str) -> None:
        """A plain container that the machines reach by its name."""
        container = f"{self._name}-{name}"
        docker("run", "--detach", f"--name={container}", f"--network={self._name}", f"--network-alias={name}", image)
        self._containers.append(container)

    def _start(self, name: str, volume: str, *, alias: str = "", image: str = _IMAGE) -> Machine:
        container = f"{self._name}-{name}"
        docker(
            "run", "--detach", f"--name={container}", f"--hostname={name}", f"--network={self._name}",
            f"--network-alias={alias or name}", *_RIGHTS, f"--volume={volume}:/var/lib/docker", image,
        )  # fmt: skip
        self._containers.append(container)
        where = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        machine = Machine(container=container, address=docker("inspect", "--format", where, container))
        wait_until(60, lambda: machine.attempt("systemctl is-system-running")[1] in ("running", "degraded"))
        return machine

    def _filled_volume(self, name: str, images: tuple[str, ...]) -> str:
        """Filled by another machine, so that the one under test has never had Docker installed."""
        volume = docker("volume", "create", f"{self._name}-{name}")
        self._volumes.append(volume)
        here = [image for image in images if image_exists(image)]
        if not here:
            return volume
        filler = self._start(f"{name}-filler", volume, image=_FILLER_IMAGE)
        wait_until(60, lambda: filler.attempt("docker info")[0] == 0)
        load = ["docker", "exec", "-i", filler.container, "docker", "load", "-q"]
        with subprocess.Popen(["docker", "save", *here], stdout=subprocess.PIPE) as save:
            subprocess.run(load, stdin=save.stdout, check=True, stdout=subprocess.DEVNULL)
        assert save.returncode == 0
        docker("rm", "--force", self._containers.pop())
        return volume


@contextmanager
def site() -> Iterator[Site]:
    here = Site()
    try:
        yield here
    finally:
        here.close()


def reason_to_skip() -> str:
    """Why machines cannot be had here; empty when they can."""
    if subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        return "no Docker engine answers"
    if not _base():
        return f"none of {', '.join(_BASES)} is here and no image may be named by MACHINE_BASE"
    return ""


def image_exists(image: str) -> bool:
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode == 0


def docker(*arguments: str, timeout_s: float = 300) -> str:
    result = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout_s)
    assert result.returncode == 0, f"docker {' '.join(arguments)}: {result.stderr[-2000:]}"
    return result.stdout.strip()


def wait_until(seconds: float, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.5)


def _base() -> str:
    named = os.environ.get("MACHINE_BASE", "")
    return named or next((base for base in _BASES if image_exists(base)), "")


def _build_machine_images() -> None:
    here = Path(__file__).parent
    for target, tag in (("machine", _IMAGE), ("filler", _FILLER_IMAGE)):
        docker(
            "build", "--network=host", "--quiet", f"--build-arg=BASE={_base()}", f"--target={target}", f"--tag={tag}",
            f"--file={here / 'machine.Dockerfile'}", str(here), timeout_s=600,
        )  # fmt: skip
