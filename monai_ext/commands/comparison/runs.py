"""Runs and where they execute: described by `Run`, executed by a `Backend`, on this machine by `LocalBackend`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from monai_ext.runtime.command_lines import shell_line
from monai_ext.storage.files import write_text
from monai_ext.storage.records import read_record, write_record

__all__ = ["Backend", "LocalBackend", "Outcome", "Run", "tied_to_this_process"]

POLL_S = 0.05
GRACE_S = 10.0  # from SIGTERM to SIGKILL
# Lets Linux kill this process with its parent (1 is PR_SET_PDEATHSIG), then becomes the command.
TIED = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))
if os.getppid() != int(sys.argv[1]):
    os.kill(os.getpid(), signal.SIGKILL)
os.execvp(sys.argv[2], sys.argv[2:])
"""
ERROR_LINE = re.compile(r"^(?:error: |(?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b).*", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """One training and its evaluation: `commands` are executed in order, `folder` is theirs alone."""

    loss: str
    fold: int
    seed: int
    commands: tuple[tuple[str, ...], ...]
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.loss}/{self.folder.name}"


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `error` is None, or one sentence; `log` is its complete output."""

    run: Run
    seconds: float
    error: str | None
    log: Path


# Executes runs in any order and yields each as it ends. Takes the next run only when it can start it; closing the
# iterator stops what is running. A cluster's scheduler is one more function of this kind.
Backend = Callable[[Iterable[Run]], Iterator[Outcome]]


class LocalBackend:
    """Runs on this machine, `jobs` at a time, each in a process group of its own with its share of the cores.

    The output of a run is added to `run.log` in its folder, every command under a line `# command: ...`; `run.pid`
    names its process while there is one. Commands that a stopped run had completed are not repeated
    (`completed.json`), except the last.

    Args:
        keep_open: file descriptors that the runs inherit, so that a lock is held until the last of them has ended.
        threads: of each run; None: OMP_NUM_THREADS where it is set, or an equal share of the cores.
        wrapper: words before every command, see `tied_to_this_process`.
    """

    def __init__(
        self, *, jobs: int = 1, keep_open: Sequence[int] = (), threads: int | None = None, wrapper: Sequence[str] = ()
    ) -> None:
        if jobs < 1:
            raise ValueError(f"jobs = {jobs}: give at least 1.")
        self.jobs, self.keep_open, self.wrapper = jobs, tuple(keep_open), tuple(wrapper)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        chosen = str(threads) if threads else os.environ.get("OMP_NUM_THREADS") or str(max(1, cores // jobs))
        self.environment = {**os.environ, "OMP_NUM_THREADS": chosen, "PYTHONUNBUFFERED": "1"}

    def __call__(self, runs: Iterable[Run]) -> Iterator[Outcome]:
        waiting = iter(runs)
        active: list[_Execution] = []
        try:
            while True:
                while len(active) < self.jobs and (run := next(waiting, None)) is not None:
                    active.append(_Execution(run, self))
                if not active:
                    return
                for execution in list(active):
                    if (outcome := execution.advance()) is not None:
                        active.remove(execution)
                        yield outcome
                time.sleep(POLL_S)
        finally:
            _stop([execution.process for execution in active if execution.process is not None])
            for execution in active:
                execution.pid.unlink(missing_ok=True)


class _Execution:
    """The commands of one run, one after the other."""

    def __init__(self, run: Run, backend: LocalBackend) -> None:
        self.run, self.backend = run, backend
        self.log, self.progress = run.folder / "run.log", run.folder / "completed.json"
        self.pid = run.folder / "run.pid"
        self.started = time.monotonic()
        done = _completed(self.progress, len(run.commands))
        self.waiting = deque(enumerate(run.commands[done:], start=done + 1))
        self.process: subprocess.Popen | None = None
        self.number = done

    def advance(self) -> Outcome | None:
        """Start the next command when the last has ended; the outcome when there is none left or one has failed."""
        if self.process is not None:
            if (status := self.process.poll()) is None:
                return None
            if status != 0:
                return self._outcome(_error_sentence(self.log, status))
            if self.waiting:
                write_record(self.progress, self.number)
        if not self.waiting:
            return self._outcome(None)
        self.number, command = self.waiting.popleft()
        try:
            with self.log.open("ab") as log:
                log.write(f"\n# command: {shell_line(command)}\n".encode())
                log.flush()
                self.process = subprocess.Popen(
                    (*self.backend.wrapper, *command),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self.backend.environment,
                    pass_fds=self.backend.keep_open,
                    start_new_session=True,
                )
        except OSError as error:
            return self._outcome(f"{command[0]} could not be started: {error}")
        write_text(self.pid, str(self.process.pid))
        return None

    def _outcome(self, error: str | None) -> Outcome:
        self.process = None
        self.pid.unlink(missing_ok=True)
        return Outcome(self.run, time.monotonic() - self.started, error, self.log)


def tied_to_this_process() -> tuple[str, ...]:
    """Words before a command, so that it is killed with this process however this ends; none where Linux is not."""
    return (sys.executable, "-S", "-c", TIED, str(os.getpid())) if sys.platform == "linux" else ()


def _completed(progress: Path, count: int) -> int:
    """Number of commands that a stopped run had completed, 0 where that is unknown: they can be repeated."""
    try:
        done = read_record(progress, int)
    except (FileNotFoundError, ValueError):
        return 0
    return done if 0 <= done < count else 0


def _stop(processes: Sequence[subprocess.Popen]) -> None:
    """End process groups: SIGTERM, and SIGKILL for those that are still there after the grace (or a second Ctrl-C)."""

    def send(process: subprocess.Popen, number: signal.Signals) -> None:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    for process in processes:
        send(process, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    try:
        for process in processes:
            process.wait(timeout=max(0.0, deadline - time.monotonic()))
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        for process in processes:
            send(process, signal.SIGKILL)
            process.wait()


def _error_sentence(log: Path, status: int) -> str:
    """What the last command of a log complained about: its error line, or its last line, or its exit status."""
    text = log.read_bytes()[-65536:].decode(errors="replace").rsplit("\n# command: ", 1)[-1]
    output = text.partition("\n")[2]
    lines = ERROR_LINE.findall(output) or [line for line in output.splitlines() if line.strip()][-1:]
    if status < 0:
        name = signal.Signals(-status).name
        return f"ended by {name}" + (" (often: out of memory)" if name == "SIGKILL" else "")
    if not lines:
        return f"ended with exit status {status} and without a word"
    wrapped = "The above exception was the direct cause" in output and not lines[-1].startswith("error: ")
    return lines[0 if wrapped else -1].removeprefix("error: ").strip()  # configs wrap the cause, which comes first
