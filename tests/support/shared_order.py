"""What makes two processes compute what one computes: the same batches, the same statistics, no random draws."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from monai_ext.data import DeviceLoader

CALM_EPS = 0.1
_batch_norm = nn.functional.batch_norm


class SharedOrder(DeviceLoader):
    """Batches of one process, of which each rank takes its share; for a data set that every rank holds whole."""

    def plans(self) -> Iterator[dict]:
        for plan in super().plans():
            share = len(plan["host_index"]) // world_size()
            first = rank() * share
            part = {key: plan[key][first : first + share] for key in ("index", "host_index")}
            yield part | {"parameters": plan["parameters"].split(share)[rank()]}


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(_, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    backward = forward


def calm_batch_norm(*args) -> Tensor:
    """`nn.functional.batch_norm` with an eps that keeps rounding errors small where a channel hardly varies."""
    return _batch_norm(*args[:7], CALM_EPS)


def batch_norm_of_all_ranks(self: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """`nn.BatchNorm2d.forward` over `calm_batch_norm`, with the statistics of the cases of all ranks."""
    if not self.training:
        return calm_batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0)
    shape = (1, -1, 1, 1)
    mean = _SumOverRanks.apply(x.mean((0, 2, 3))) / world_size()
    centred = x - mean.view(shape)
    variance = _SumOverRanks.apply(centred.square().mean((0, 2, 3))) / world_size()
    with torch.no_grad():
        count = world_size() * x.numel() / x.shape[1]
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        self.num_batches_tracked += 1
    return centred * ((variance + CALM_EPS).rsqrt() * self.weight).view(shape) + self.bias.view(shape)
