"""Gradients of a network: frozen, clipped, and averaged over processes without a wrapper around the network.

`DistributedDataParallel` reduces gradients while they are computed, and for that wants one forward and one backward
pass a step, of all weights. Adversarial training has several forward passes, frozen weights and gradients with respect
to images; so the sums are taken afterwards, in one message.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed
from torch import Tensor, nn

from monai_ext.runtime.ranks import is_distributed

__all__ = ["average_over_ranks", "clipped_step", "copy_from_first_rank", "frozen"]


@contextmanager
def frozen(network: nn.Module) -> Iterator[nn.Module]:
    """Inside the block no weight of `network` gets a gradient; gradients still pass through it to its input."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield network
    finally:
        for weight in weights:
            weight.requires_grad_(True)


def clipped_step(network: nn.Module, optimizer: torch.optim.Optimizer, max_grad_norm: float | None) -> None:
    """A step of the optimiser, before which the gradient of `network` is clipped to this Euclidean norm, if any."""
    if max_grad_norm is not None:
        nn.utils.clip_grad_norm_(network.parameters(), max_grad_norm)
    optimizer.step()


@torch.no_grad()
def average_over_ranks(network: nn.Module) -> None:
    """Replace gradients and floating-point buffers by their means over all processes; does nothing in a single one.

    Every process must have gradients for the same weights. Buffers (BatchNorm's statistics) are averaged so that all
    processes save and validate the same network.
    """
    if not is_distributed():
        return
    tensors = [weight.grad for weight in network.parameters() if weight.grad is not None]
    tensors += [buffer for buffer in network.buffers() if buffer.is_floating_point()]
    message = torch.cat([tensor.float().flatten() for tensor in tensors])
    torch.distributed.all_reduce(message)
    message /= torch.distributed.get_world_size()
    for tensor, part in zip(tensors, message.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


@torch.no_grad()
def copy_from_first_rank(network: nn.Module) -> None:
    """Give every process rank 0's weights and buffers; does nothing in a single one."""
    if not is_distributed():
        return
    for tensor in _tensors(network):
        torch.distributed.broadcast(tensor, 0)


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    for weight in network.parameters():
        yield weight.data
    yield from network.buffers()
