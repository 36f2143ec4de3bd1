"""Batches, networks and outputs in the memory layout and number format that the engines share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["as_float32", "count_items", "laid_out", "prepared", "to_channels_last"]


def prepared(engine: Any, batchdata: dict[str, Tensor]) -> tuple[Tensor, Any, tuple, dict]:
    """Images in the engine's memory format, targets, and further arguments of the network, on the device."""
    batch = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs)
    inputs, targets, args, kwargs = (*batch, (), {}) if len(batch) == 2 else batch
    return laid_out(inputs, engine.memory_format), targets, args, kwargs


def laid_out(images: Tensor, memory_format: torch.memory_format | None) -> Tensor:
    """`images` in `memory_format`, where they are (B, C, H, W) and one is given."""
    if memory_format is None or images.ndim != 4:
        return images
    return images.contiguous(memory_format=memory_format)


def count_items(loader: Any) -> int:
    """Number of items of a loader's data set, on all ranks together.

    Raises:
        ValueError: the loader has no data set.
    """
    dataset = getattr(loader, "dataset", None)
    if dataset is None:
        raise ValueError(f"{type(loader).__name__} has no data set whose items could be counted.")
    return sum(getattr(dataset, "shard_lengths", None) or [len(dataset)])


def as_float32(prediction: Any) -> Any:
    """Tensors as float32, anything else (such as a dictionary of tensors) as it is."""
    return prediction.float() if isinstance(prediction, Tensor) else prediction


def to_channels_last(network: nn.Module, wanted: bool) -> torch.memory_format | None:
    """Bring the network into channels_last memory, if wanted; the memory format of its images.

    Networks of volumes, which have a weight or buffer of five axes, stay as they are: with bfloat16 channels_last_3d
    costs a CPU half as much again.

    Raises:
        ValueError: it was wrapped in `DistributedDataParallel` before it was in that memory.
    """
    if not wanted or any(values.ndim == 5 for values in (*network.parameters(), *network.buffers())):
        return None
    if isinstance(network, nn.parallel.DistributedDataParallel) and not _is_channels_last(network):
        raise ValueError(
            "the network was wrapped in DistributedDataParallel before it was in channels_last memory, which mixes up "
            "the gradients of its first step: wrap network.to(memory_format=torch.channels_last), or set channels_last "
            "to False."
        )
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return torch.channels_last


def _is_channels_last(network: nn.Module) -> bool:
    weights = (weight for weight in network.parameters() if weight.ndim == 4)
    return all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
