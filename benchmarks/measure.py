"""Cost of a piece of work: wall clock and CPU time of the process tree, variants in turn, and operations counted.

The machine is never as quiet as one would like, so every variant runs once in each round, in rotating order, and a
ratio is the median over rounds of the ratios within a round.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = ("_local_scalar_dense", "item", "nonzero", "masked_select", "is_nonzero", "equal", "unique")


@dataclass(frozen=True)
class Cost:
    """Seconds that something took: on the clock, and of CPU time in this process, its threads and its workers."""

    wall: float
    cpu: float

    def __truediv__(self, count: int) -> Cost:
        return Cost(self.wall / count, self.cpu / count)


class Stopwatch:
    """Cost from `start` to `stop`, both of which wait for `device`."""

    def __init__(self, device: torch.device):
        self.device = device
        self.cost = Cost(float("nan"), float("nan"))
        self._wall = self._cpu = 0.0

    def start(self) -> None:
        gc.collect()
        synchronise(self.device)
        self._cpu, self._wall = tree_cpu_seconds(), time.perf_counter()

    def stop(self) -> None:
        synchronise(self.device)
        self.cost = Cost(time.perf_counter() - self._wall, tree_cpu_seconds() - self._cpu)


def timed(work: Callable[[], object], device: torch.device) -> Cost:
    """Cost of calling `work` once."""
    watch = Stopwatch(device)
    watch.start()
    work()
    watch.stop()
    return watch.cost


def in_turn(variants: Mapping[str, Callable[[], Cost]], *, rounds: int, warmups: int = 1) -> dict[str, list[Cost]]:
    """Costs of each variant in `rounds` rounds, after `warmups` rounds that do not count."""
    names = list(variants)
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    for number in range(-warmups, rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            cost = variants[name]()
            if number >= 0:
                costs[name].append(cost)
    return costs


def middle(costs: Sequence[Cost], clock: str) -> float:
    """Median seconds of `costs` by `clock`, "wall" or "cpu"."""
    return median(getattr(cost, clock) for cost in costs)


def times_cheaper(costs: Sequence[Cost], than: Sequence[Cost], clock: str) -> float:
    """Median over rounds of `than` / `costs`."""
    return median(getattr(b, clock) / getattr(a, clock) for a, b in zip(costs, than, strict=True))


def excess(costs: Sequence[Cost], over: Sequence[Cost], clock: str) -> float:
    """Median over rounds of `costs` - `over`, in seconds."""
    return median(getattr(a, clock) - getattr(b, clock) for a, b in zip(costs, over, strict=True))


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch, for pictures so small that a second one only adds noise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def tree_cpu_seconds() -> float:
    """CPU seconds so far of this process with all its threads, and of its workers, living or joined.

    The time of a living worker is known on Linux only; elsewhere it is NaN while there are workers.
    """
    living = sum(_cpu_seconds_of(child.pid) for child in multiprocessing.active_children())
    joined = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + joined.ru_utime + joined.ru_stime + living


def _cpu_seconds_of(pid: int) -> float:
    if not os.path.exists("/proc/self/stat"):
        return float("nan")
    # Linux names the CPU clock of a process by its inverted id: MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED).
    return time.clock_gettime((~pid << 3) | 2)


def resident_bytes() -> int:
    """Memory that this process holds now; 0 where the system does not report it (Linux does)."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class CountOperations(TorchDispatchMode):
    """Names of the operations of this thread that launch a kernel or wait for one; views do neither."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view:
            self.names.append(func.name())
        return func(*args, **(kwargs or {}))

    @property
    def waiting(self) -> list[str]:
        """Those that make the host wait for the device."""
        return [name for name in self.names if name.split("::")[1].split(".")[0] in WAITING]


def operations_of_second(batches: Iterable) -> CountOperations:
    """What the second batch of `batches` takes; the first one makes what is kept for all."""
    iterator = iter(batches)
    next(iterator)
    with CountOperations() as count:
        next(iterator)
    return count
