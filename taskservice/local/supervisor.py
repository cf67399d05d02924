"""Start named programs, restart those that die, stop them in order. Touches no process it did not start.

Knows nothing of what the programs are.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_FIRST_BACKOFF_S = 0.5
_MAX_BACKOFF_S = 15.0
_STEADY_AFTER_S = 30.0  # one that ran this long starts again with the first backoff
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. Programs of a lower `stop_rank` are stopped, and gone, before those of a higher one."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    stop_rank: int
    grace_s: float = 10.0


@dataclass(slots=True)
class _Running:
    program: Program
    process: subprocess.Popen[bytes]
    started_at: float
    backoff_s: float = _FIRST_BACKOFF_S
    due_at: float | None = None  # when it is started again; None while it runs
    deaths: int = 0


@dataclass
class Supervisor:
    """Each program runs in a session of its own, writes to `log_dir`/NAME.log, and ends when this process does."""

    log_dir: Path
    say: Callable[[str], None] = print
    _running: dict[str, _Running] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _ended: threading.Event = field(default_factory=threading.Event)
    _watcher: threading.Thread | None = None

    def start(self, program: Program) -> None:
        """Run it now and again whenever it dies."""
        self.log_dir.mkdir(parents=True, exist_ok=True)
        with self._lock:
            if program.name in self._running:
                raise ValueError(f"{program.name} is started already")
            self._running[program.name] = _Running(program, self._spawn(program), time.monotonic())
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)
                self._watcher.start()

    def pid(self, name: str) -> int:
        """Of its main process. Raises KeyError for a name that is not started."""
        return self._running[name].process.pid

    def is_alive(self, name: str) -> bool:
        with self._lock:
            running = self._running.get(name)
            return running is not None and running.process.poll() is None

    def deaths(self, name: str) -> int:
        """How often it ended by itself since `start`. Raises KeyError for a name that is not started."""
        return self._running[name].deaths

    def log(self, name: str) -> Path:
        return self.log_dir / f"{name}.log"

    def log_tail(self, name: str, *, lines: int = 15) -> str:
        try:
            return "\n".join(self.log(name).read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def kill(self, name: str, *, signal_number: int = signal.SIGKILL) -> int:
        """Signal its main process only, as a crash would; it is started again. Returns the pid it had."""
        with self._lock:
            process = self._running[name].process
            process.send_signal(signal_number)
            return process.pid

    def signal_group(self, name: str, signal_number: int) -> int:
        """Signal everything it started that stayed in its process group. Returns the pid of its main process."""
        with self._lock:
            process = self._running[name].process
            os.killpg(process.pid, signal_number)  # each program leads a session, so a group, of its own
            return process.pid

    def stop(self, name: str) -> Program:
        """Stop it within its grace, then by force, and leave it stopped. `start` takes what this returns."""
        with self._lock:
            running = self._running.pop(name)
        self._terminate([running])
        return running.program

    def stop_all(self) -> None:
        """Everything, in order of rank. A second call does nothing."""
        with self._lock:
            remaining = list(self._running.values())
            self._running.clear()
        for rank in sorted({running.program.stop_rank for running in remaining}):
            self._terminate([running for running in remaining if running.program.stop_rank == rank])
        # The watcher ends last: the kernel counts the thread that started a child as its parent (PR_SET_PDEATHSIG).
        self._ended.set()
        if self._watcher is not None:
            self._watcher.join()

    def _spawn(self, program: Program) -> subprocess.Popen[bytes]:
        with self.log(program.name).open("ab") as log:
            return subprocess.Popen(
                [*_die_with_parent(), *program.command],
                env=dict(program.env),
                cwd=program.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal reaches only us
            )

    def _watch(self) -> None:
        while not self._ended.wait(_POLL_S):
            with self._lock:
                for running in self._running.values():
                    self._revive(running)

    def _revive(self, running: _Running) -> None:
        if running.process.poll() is None:
            return
        moment = time.monotonic()
        if running.due_at is None:
            if moment - running.started_at > _STEADY_AFTER_S:
                running.backoff_s = _FIRST_BACKOFF_S
            running.due_at = moment + running.backoff_s
            running.deaths += 1
            running.backoff_s = min(2 * running.backoff_s, _MAX_BACKOFF_S)
            self.say(
                f"{running.program.name} ended with {running.process.returncode}; see {self.log(running.program.name)}"
            )
        elif moment >= running.due_at:
            _kill_session(running.process.pid)
            running.process, running.started_at, running.due_at = self._spawn(running.program), moment, None

    def _terminate(self, group: list[_Running]) -> None:
        for running in group:
            if running.process.poll() is None:
                running.process.terminate()
        began = time.monotonic()
        for running in group:
            try:
                running.process.wait(max(0.1, began + running.program.grace_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.say(f"{running.program.name} did not stop within {running.program.grace_s:g} s and is killed")
                running.process.kill()
            _kill_session(running.process.pid)
            running.process.wait()


def _die_with_parent() -> list[str]:
    """A prefix that makes the kernel send SIGTERM when we are gone, however we went."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []


def _kill_session(process_group: int) -> None:
    """What a program left behind in its process group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process_group, signal.SIGKILL)
