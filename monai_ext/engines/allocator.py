"""Keep the memory that a training step on a CPU frees for the next step.

glibc maps memory for a large tensor anew each time and unmaps it when it is freed, so that a training takes a page
fault for every 4 KiB of activations and gradients in every step. How much that costs is measured by
`python -m benchmarks --only step`. CUDA has an allocator that keeps memory; this is the same for the CPU.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

__all__ = ["kept_memory"]

# Parameters of mallopt, from malloc.h, and their values: while memory is kept, and after it.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4
MIB = 2**20
KEEPING = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1, M_TOP_PAD: 64 * MIB}  # no maps; -1: nothing is given back
# glibc's own thresholds rise to these as soon as tensors of that size have been freed
USUAL = {M_MMAP_MAX: 65536, M_TRIM_THRESHOLD: 64 * MIB, M_TOP_PAD: 0, M_MMAP_THRESHOLD: 32 * MIB}

_users = 0


@contextmanager
def kept_memory(device: torch.device | str) -> Iterator[None]:
    """Inside, the process keeps what it frees and takes new memory from that; at the end it gives all back.

    For the whole process, whatever allocates in it; on another device than a CPU, and without glibc, nothing is done.
    """
    global _users
    mallopt = _glibc("mallopt") if torch.device(device).type == "cpu" else None
    if mallopt is None:
        yield
        return
    if _users == 0:
        _set(mallopt, KEEPING)
    _users += 1
    try:
        yield
    finally:
        _users -= 1
        if _users == 0:
            _set(mallopt, USUAL)
            if (trim := _glibc("malloc_trim")) is not None:
                trim(0)


def _set(mallopt: Callable[[int, int], int], values: dict[int, int]) -> None:
    for parameter, value in values.items():
        mallopt(parameter, value)


def _glibc(function: str) -> Callable | None:
    """A function of the C library that this process runs on, if that is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return getattr(library, function, None) if hasattr(library, "gnu_get_libc_version") else None
