"""`make run` and `make demo`: everything on this machine, nine real tasks, then wait for Ctrl-C or end.

Chooses between RabbitMQ and the embedded broker; all else is LocalSystem's.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskservice.local.demo import run_demo
from taskservice.local.install import EMBEDDED_WARNING, install_packages
from taskservice.local.system import REPOSITORY, Broker, LocalSystem, StartFailed

_DATA_DIR = REPOSITORY / ".run"


def main() -> int:
    arguments = _parse_arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # `nohup make run` stays
            signal.signal(number, signal.default_int_handler)  # end as Ctrl-C does: orderly
    try:
        with _only_one(_DATA_DIR):
            return _run(arguments.command, arguments.broker)
    except KeyboardInterrupt:
        return 0 if arguments.command == "run" else 130
    except StartFailed as error:
        print(error, file=sys.stderr)
        return 1


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m taskservice.local", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("run", "demo"), default="run")
    parser.add_argument(
        "--broker",
        choices=("auto", "rabbitmq", "embedded"),
        default="auto",
        help="auto: RabbitMQ if it is or can be installed, else embedded",
    )
    return parser.parse_args()


def _run(command: str, wanted: str) -> int:
    began = time.monotonic()
    system = LocalSystem(_data_dir(broker := _choose_broker(wanted)), private_ports=False, broker=broker)
    print("starting; logs are in", system.data_dir / "logs", flush=True)
    try:
        system.start()
        print(f"ready after {time.monotonic() - began:.0f} s", flush=True)
        has_succeeded = run_demo(system.url)
        _print_addresses(system)
        if command == "run":
            print("Ctrl-C stops everything this command started.", flush=True)
            signal.pause()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a second one must not leave half of it running
            signal.signal(number, signal.SIG_IGN)
        print("\nstopping", flush=True)
        system.stop()
    return 0 if has_succeeded else 1


def _choose_broker(wanted: str) -> Broker:
    names_both = os.environ.get("CELERY_BROKER_URL") and os.environ.get("CELERY_RESULT_BACKEND")
    if names_both and wanted != "embedded":
        print("using the broker and store that CELERY_BROKER_URL and CELERY_RESULT_BACKEND name", flush=True)
        return "rabbitmq"
    if wanted != "embedded" and install_packages():
        return "rabbitmq"
    if wanted == "rabbitmq":
        raise StartFailed(
            "RabbitMQ and Redis are not installed: apt-get install rabbitmq-server redis-server (as root)"
        )
    print(EMBEDDED_WARNING, flush=True)
    return "embedded"


def _data_dir(broker: Broker) -> Path:
    """Redis and Valkey do not read each other's files."""
    return _DATA_DIR / broker


def _print_addresses(system: LocalSystem) -> None:
    rows = [
        ("API", system.url),
        ("API docs", f"{system.url}/docs"),
        ("Flower", system.flower_url),
        ("RabbitMQ UI", f"{system.management_url}  (guest / guest)" if system.management_url else None),
        ("Mail sink", f"smtp://127.0.0.1:{system.mail_port}  (log: mail.log)" if system.mail_port else None),
        ("Logs", str(system.data_dir / "logs")),
    ]
    for name, address in rows:
        if address is not None:
            print(f"{name:<12} {address}")
    print(flush=True)


@contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    """Two at once would share their data."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StartFailed(f"another `make run` of this directory is running (it holds {lock.name})") from error
        yield


if __name__ == "__main__":
    sys.exit(main())
