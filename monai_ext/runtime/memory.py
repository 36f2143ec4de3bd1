"""Free memory of a device, and the error where it is not enough."""

from __future__ import annotations

import os
from pathlib import Path

import torch


class DeviceMemoryError(ValueError):
    """A data set does not fit into the memory at hand."""


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be allocated on `device`, None where the system does not report it.

    CPU: available memory of the machine or of the container (cgroup 1 and 2), whichever is less. CUDA: free memory of
    the device and what PyTorch holds without using it. MPS: recommended limit less what the driver holds.
    """
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + idle
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    if device.type == "cpu":
        known = [free for free in (_machine_memory(), _container_memory()) if free is not None]
        return min(known, default=None)
    return None


def _machine_memory() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):  # not Linux
        return None


def _container_memory() -> int | None:
    root = Path("/sys/fs/cgroup")
    for limit, used, cached in (
        (root / "memory.max", root / "memory.current", "inactive_file"),
        (root / "memory/memory.limit_in_bytes", root / "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            statistics = dict(line.split() for line in (limit.parent / "memory.stat").read_text().splitlines())
            return int(limit.read_text()) - int(used.read_text()) + int(statistics.get(cached, 0))
        except (OSError, ValueError):  # no such file, or "max": no limit
            continue
    return None


def in_words(nbytes: float) -> str:
    """A number of bytes for people: '393 MiB', '1.2 GiB'."""
    for unit in ("B", "KiB", "MiB"):
        if nbytes < 1024:
            return f"{nbytes:.0f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.1f} GiB"
