"""Runs as tasks of Ray, on one machine or on many, with the folders and files that `LocalBackend` leaves.

Ray is optional and imported only where it is chosen. Output folders, bundle and data must lie on storage that all
workers see under the same path; each worker proves it before a run begins.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from monai_ext.commands.command_line import Computed
from monai_ext.commands.comparison.runs import GRACE_S, LocalBackend, Outcome, Run, tied_to_this_process
from monai_ext.runtime.errors import one_line
from monai_ext.storage.files import write_text

__all__ = ["RayBackend", "RayOptions"]

WAIT_S = 1.0  # between two looks at the cluster's size
TOKEN = ".worker_token"
SHARE = "put --output_dir, bundle and data on storage that all workers mount under the same path"


@dataclass(frozen=True)
class _Task:
    """A run as sent to a worker, and how to recognise the storage of the process that sends it."""

    run: Run
    token: str
    needed: tuple[Path, ...]
    python: str
    working_dir: str
    threads: int


@dataclass(frozen=True)
class RayOptions:
    """With --backend ray, whose workers must share the folders' storage."""

    gpus_per_run: Computed[float | None] = None
    """GPUs of a run, 0.5 lets two share one (1 if there are any)"""
    cpus_per_run: float = 1.0
    """CPUs of a run, and its threads"""
    address: Computed[str | None] = None
    """HOST:PORT of a cluster, auto, or local to start one here (auto, else local)"""
    retries: int = 3
    """how many times a run whose worker was lost is started again"""

    def __post_init__(self) -> None:
        gpus = self.gpus_per_run or 0.0
        if gpus < 0 or not self.cpus_per_run > 0 or self.retries < 0:
            raise ValueError(
                f"gpus_per_run = {self.gpus_per_run}, cpus_per_run = {self.cpus_per_run}, retries = {self.retries}: "
                "give CPUs above 0, GPUs and retries of at least 0."
            )
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"gpus_per_run = {gpus}: give a fraction below 1, or whole GPUs.")


class RayBackend:
    """Runs as tasks of Ray, each with its share of CPUs and GPUs, as many at a time as the cluster has room for.

    A run whose worker or machine is lost (killed, out of memory, switched off) goes to another one: it goes on after
    its last checkpoint. What a lost worker was training ends with it (on Linux). A run that fails by itself is not
    repeated. GPU fractions count for placement only: Ray does not divide the GPU's memory. A cluster that was started
    here ends with the runs.

    Args:
        options: cluster, and share of each run.
        jobs: runs at a time; None: as many as fit. Give it where the cluster grows on demand: it sees runs that wait.
        needed: files and folders that every worker must see.

    Raises:
        ValueError: Ray is not installed, or `jobs` is below 1; (when runs are taken) no machine can hold a run.
        ConnectionError: (when runs are taken) there is no cluster at the address.
    """

    def __init__(
        self, options: RayOptions | None = None, *, jobs: int | None = None, needed: Sequence[Path] = ()
    ) -> None:
        if jobs is not None and jobs < 1:
            raise ValueError(f"jobs = {jobs}: give at least 1.")
        self.ray = _imported_ray()
        self.options, self.jobs, self.needed = options or RayOptions(), jobs, tuple(needed)

    def __call__(self, runs: Iterable[Run]) -> Iterator[Outcome]:
        ours = not self.ray.is_initialized()
        if ours:
            self._connect()
        try:
            yield from self._execute(runs, self._share_of_a_run())
        finally:
            if ours:
                self.ray.shutdown()

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage statistics
        try:
            self.ray.init(
                address=self.options.address, logging_level="ERROR", log_to_driver=False, include_dashboard=False
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConnectionError(
                f"no Ray cluster at --address {self.options.address} ({one_line(error)}): start one by `ray start "
                "--head`, or leave --address out to use this machine."
            ) from error

    def _share_of_a_run(self) -> dict[str, float]:
        gpus = self.options.gpus_per_run
        if gpus is None:
            gpus = 1.0 if self.ray.cluster_resources().get("GPU") else 0.0
        share = {"CPU": self.options.cpus_per_run, "GPU": gpus}
        if self.jobs is None and not self._room(share):
            most = {name: max(machine.get(name, 0.0) for machine in self._machines()) for name in share}
            raise ValueError(
                f"no machine of the Ray cluster can hold a run of {share['CPU']:g} CPUs and {share['GPU']:g} GPUs (the "
                f"most they have are {most['CPU']:g} and {most['GPU']:g}): lower --cpus_per_run or --gpus_per_run, or "
                "set --jobs where the cluster grows on demand."
            )
        return share

    def _machines(self) -> list[Mapping[str, float]]:
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]] or [{}]

    def _room(self, share: Mapping[str, float]) -> int:
        """How many runs the cluster holds at a time."""
        wanted = {name: amount for name, amount in share.items() if amount}
        return sum(
            min(int(machine.get(name, 0.0) / amount + 1e-6) for name, amount in wanted.items())
            for machine in self._machines()
        )

    def _execute(self, runs: Iterable[Run], share: Mapping[str, float]) -> Iterator[Outcome]:
        task = self.ray.remote(_execute_here).options(
            num_cpus=share["CPU"], num_gpus=share["GPU"], max_retries=self.options.retries
        )
        waiting = iter(runs)
        active: dict[Any, Run] = {}
        try:
            while True:
                room = self.jobs or max(1, self._room(share))
                while len(active) < room and (run := next(waiting, None)) is not None:
                    active[task.remote(self._told(run, threads=max(1, int(share["CPU"]))))] = run
                if not active:
                    return
                done, _ = self.ray.wait(list(active), timeout=WAIT_S)
                for reference in done:
                    yield self._outcome(reference, active.pop(reference))
        finally:
            self._stop(active)

    def _told(self, run: Run, *, threads: int) -> _Task:
        token = secrets.token_hex(16)
        write_text(run.folder / TOKEN, token)
        return _Task(run, token, self.needed, sys.executable, os.getcwd(), threads)

    def _outcome(self, reference: Any, run: Run) -> Outcome:
        (run.folder / TOKEN).unlink(missing_ok=True)
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            problem = f"a Ray worker could not begin it ({one_line(error.cause or error)}): install the same there"
        except self.ray.exceptions.RayError as error:
            problem = f"its worker was lost, {self.options.retries + 1} times in all ({one_line(error)})"
        return Outcome(run, 0.0, problem, run.folder / "run.log")

    def _stop(self, active: Mapping[Any, Run]) -> None:
        """Interrupt the tasks, which end their runs as on one machine, and kill those that do not react."""
        for reference in active:
            self.ray.cancel(reference)
        deadline, left = time.monotonic() + GRACE_S + WAIT_S, list(active)
        while left and time.monotonic() < deadline:
            _, left = self.ray.wait(left, num_returns=len(left), timeout=WAIT_S)
        for reference in left:
            self.ray.cancel(reference, force=True)
        for run in active.values():
            (run.folder / TOKEN).unlink(missing_ok=True)


def _imported_ray() -> ModuleType:
    try:
        import ray
    except ImportError as error:
        raise ValueError('the backend ray needs Ray, which is not installed: pip install "ray>=2.40".') from error
    return ray


def _execute_here(task: _Task) -> Outcome:
    """In a worker: the run, as the local backend executes it."""
    run = task.run
    if problem := _storage_problem(task):
        return Outcome(run, 0.0, problem, run.folder / "run.log")
    with suppress(OSError):  # options with relative paths mean the same as where they were typed
        os.chdir(task.working_dir)
    commands = tuple((sys.executable if word == task.python else word, *rest) for word, *rest in run.commands)
    backend = LocalBackend(threads=task.threads, wrapper=tied_to_this_process())
    (outcome,) = backend([replace(run, commands=commands)])
    return replace(outcome, run=run)


def _storage_problem(task: _Task) -> str | None:
    host = socket.gethostname()
    if unseen := [path for path in task.needed if not path.exists()]:
        return f"the worker on {host} does not see '{unseen[0]}': {SHARE}."
    try:
        here = (task.run.folder / TOKEN).read_text(encoding="utf-8") == task.token
    except OSError:
        here = False
    if not here:
        return f"'{task.run.folder}' of the worker on {host} is not the folder that this comparison writes to: {SHARE}."
    return None
