"""Get Debian's RabbitMQ and Redis where we may: as root, with apt. Their services are not started.

`python -m taskservice.local.install` does only this for `make test`, and brings curl and jq, with which the
documentation's commands are followed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from taskservice.local.brokers import find_rabbitmq_server
from taskservice.local.stores import find_redis_server

_POLICY = Path("/usr/sbin/policy-rc.d")
_PACKAGES = ("rabbitmq-server", "redis-server")
_PROGRAMS_OF_THE_TESTS = ("curl", "jq")

EMBEDDED_WARNING = """\
The embedded broker (Valkey as broker and store) is for trying the service. What it does not promise:
  - confirmed publishing: a message that no queue takes is lost without an error
  - waiting in the broker: delayed tasks and retries wait in a worker's memory, so workers hold them
  - quick recovery: what a killed worker held comes back only after the visibility timeout (a day)
  - dead letters, and the broker's own limit on deliveries
  - RabbitMQ's management UI\
"""


def are_packages_installed() -> bool:
    return find_rabbitmq_server() is not None and find_redis_server() is not None


def install_packages() -> bool:
    """Whether RabbitMQ and Redis are there now. Changes nothing unless run as root on a machine with apt."""
    if are_packages_installed():
        return True
    return _install(_PACKAGES) and are_packages_installed()


def install_programs_of_the_tests() -> bool:
    """Whether they are there now; the same conditions."""
    missing = [name for name in _PROGRAMS_OF_THE_TESTS if shutil.which(name) is None]
    return not missing or _install(missing)


def _install(packages: Sequence[str]) -> bool:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    print(f"installing {' and '.join(packages)} (their own services stay off)", flush=True)
    with _no_service_starts():
        return _apt_get("update") and _apt_get("install", "-y", "--no-install-recommends", *packages)


def _apt_get(*arguments: str) -> bool:
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    ended = subprocess.run(
        ["apt-get", "-q", *arguments], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if ended.returncode != 0:
        print(f"apt-get {arguments[0]} failed: {ended.stderr.strip()}", flush=True)
    return ended.returncode == 0


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Debian's way to install a package without starting its service; a policy that exists is left as it is."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)


if __name__ == "__main__":
    if not install_packages():
        print("RabbitMQ and Redis are not installed and cannot be installed here (apt-get as root is needed).")
    if not install_programs_of_the_tests():
        print(f"{' and '.join(_PROGRAMS_OF_THE_TESTS)} are missing and cannot be installed here: some tests fail.")
