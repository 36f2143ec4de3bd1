"""Exponential moving average of a network's weights (Polyak averaging), with the usual warm-up."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

__all__ = ["ModelEMA"]


class ModelEMA(AveragedModel):
    """`torch.optim.swa_utils.AveragedModel` as an exponential moving average; `.module` is the averaged network.

    After update t the average is `d * average + (1 - d) * weights` with `d = min(decay, (1 + t) / (10 + t))`: short at
    first, so that the random start is soon forgotten. Buffers (BatchNorm statistics) are averaged as well.

    Args:
        network: the network to follow; copied, never changed.
        decay: in [0, 1); 0.99 remembers about 100 steps, 0.999 about 1,000.

    Raises:
        ValueError: `decay` is outside [0, 1).
    """

    def __init__(self, network: nn.Module, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay} must be in [0, 1).")
        self.decay = decay
        super().__init__(network, multi_avg_fn=self._update, use_buffers=True)

    @torch.no_grad()
    def _update(self, averaged: list[Tensor], current: list[Tensor], updates: Tensor | int) -> None:
        step = int(updates)
        decay = min(self.decay, (1 + step) / (10 + step))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - decay)
        else:  # BatchNorm's counters
            torch._foreach_copy_(averaged, current)
