"""Ranks of distributed processes; every function works without torch.distributed as well."""

from __future__ import annotations

import os

import ignite.distributed
import torch.distributed
from torch import Tensor, nn

__all__ = [
    "data_parallel",
    "is_distributed",
    "is_main_process",
    "join_process_group",
    "join_ranks",
    "mean_over_ranks",
    "rank_device",
]


def is_distributed() -> bool:
    """Whether a process group of more than one process runs."""
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return ready and torch.distributed.get_world_size() > 1


def is_main_process() -> bool:
    """True on rank 0, the process that writes files, and without a process group."""
    return not is_distributed() or torch.distributed.get_rank() == 0


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of `value` over all processes, the same on each; `value` itself in a single one."""
    if not is_distributed():
        return value
    total = value.detach().clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def join_process_group(backend: str) -> None:
    """`torch.distributed.init_process_group` under torchrun, also for processes that torchrun has started again.

    torchrun hands every new start the store of the first one, whose keys hold the addresses of processes that are
    gone: the new ones would wait for them for half an hour (PyTorch issue 135712). Here each start has keys of its own.
    Launchers on several machines count their starts apart; there torchrun must not share its store.

    Args:
        backend: "nccl" or "gloo".

    Raises:
        ValueError: started again by one of several launchers that share a store.
    """
    starts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or not starts:
        torch.distributed.init_process_group(backend)
        return
    if int(os.environ["GROUP_WORLD_SIZE"]) > 1:
        raise ValueError(
            "a process on one of several machines was started again, where torchrun's shared store holds addresses of "
            "the first start: set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 where torchrun is started, on every machine."
        )
    store = torch.distributed.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    torch.distributed.init_process_group(
        backend,
        store=torch.distributed.PrefixStore(f"start{starts}", store),
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
    )


def rank_device() -> torch.device:
    """The GPU of this process under torchrun, or the CPU where there is none."""
    return torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if torch.cuda.is_available() else "cpu")


def join_ranks(device: torch.device | str, *, backend: str | None = None) -> None:
    """`join_process_group` by `backend`, or by nccl on CUDA devices and gloo on CPUs; for a config's `initialize`."""
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    join_process_group(backend or ("nccl" if device.type == "cuda" else "gloo"))
    # Ignite synchronises on its first use, in which all ranks must take part: later rank 0 alone would wait for ever
    ignite.distributed.get_world_size()


def data_parallel(network: nn.Module, device: torch.device | str, *, channels_last: bool = True) -> nn.Module:
    """`DistributedDataParallel` around a network, which must be in its memory format before that."""
    if channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent in its stubs
    devices = [device] if torch.device(device).type == "cuda" else None
    return nn.parallel.DistributedDataParallel(network, device_ids=devices)
