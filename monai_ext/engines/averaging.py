"""Exponential moving average of a network's weights (Polyak averaging), with the usual warm-up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

__all__ = ["ModelEMA"]

Slot = tuple[Mapping[str, Any], str]  # the dictionary of a module that keeps a tensor, and its name there


class ModelEMA(AveragedModel):
    """`torch.optim.swa_utils.AveragedModel` as an exponential moving average; `.module` is the averaged network.

    After update t the average is `d * average + (1 - d) * weights` with `d = min(decay, (1 + t) / (10 + t))`: short at
    first, so that the random start is soon forgotten; update 0 copies. Buffers (BatchNorm statistics) are averaged as
    well, counters copied. The count of updates stays on the host, so that no update waits for the device.

    Args:
        network: the network to follow, on the device where it is trained; copied, never changed.
        decay: in [0, 1); 0.99 averages about 100 steps, 0.999 about 1,000.

    Raises:
        ValueError: `decay` is outside [0, 1).
    """

    def __init__(self, network: nn.Module, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay} must be in [0, 1).")
        self.decay = decay
        super().__init__(network, use_buffers=True)
        self._followed: tuple[nn.Module, list[Slot], list[Slot]] | None = None

    @torch.no_grad()
    def update_parameters(self, network: nn.Module) -> None:
        """Move the average towards `network`.

        Raises:
            ValueError: `network` has other parameters or buffers than the one that was copied.
        """
        step = int(self.n_averaged)
        self.n_averaged += 1
        share = 1.0 if step == 0 else 1.0 - min(self.decay, (1 + step) / (10 + step))
        averaged: list[Tensor] = []
        current: list[Tensor] = []
        counters: list[Tensor] = []  # of BatchNorm
        counted: list[Tensor] = []
        for (ours, name), (theirs, _) in self._slots(network):
            floating = ours[name].is_floating_point()
            (averaged if floating else counters).append(ours[name])
            (current if floating else counted).append(theirs[name])
        torch._foreach_lerp_(averaged, current, share)
        if counters:
            torch._foreach_copy_(counters, counted)

    def _slots(self, network: nn.Module) -> Iterator[tuple[Slot, Slot]]:
        """Where average and network keep each tensor, looked up once: walking the modules costs more than the sums."""
        if self._followed is None or self._followed[0] is not network:  # in a tuple, so that it is no submodule
            ours, theirs = slots_of(self.module), slots_of(network)
            if [group[name].shape for group, name in ours] != [group[name].shape for group, name in theirs]:
                raise ValueError("the network is not the one that was averaged so far: parameters or buffers differ.")
            self._followed = network, ours, theirs
        return zip(*self._followed[1:], strict=True)


def slots_of(network: nn.Module) -> list[Slot]:
    """Where `network` keeps its parameters and buffers, each once, in the order of the modules."""
    slots: dict[int, Slot] = {}
    for module in network.modules():
        for group in (module._parameters, module._buffers):
            for name, tensor in group.items():
                if tensor is not None:
                    slots.setdefault(id(tensor), (group, name))
    return list(slots.values())
