"""Which of several processes this is; everything works alike without torch.distributed."""

from __future__ import annotations

import torch.distributed

__all__ = ["is_distributed", "is_main_process"]


def is_distributed() -> bool:
    """Whether a process group of more than one process runs."""
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return ready and torch.distributed.get_world_size() > 1


def is_main_process() -> bool:
    """True on rank 0, the process that writes files, and without a process group."""
    return not is_distributed() or torch.distributed.get_rank() == 0
