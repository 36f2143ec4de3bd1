"""Prediction averaged over mirror images of the input (test-time augmentation by flips)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

__all__ = ["FlipInferer"]


class FlipInferer(Inferer):
    """Mean logits over the image and its mirror images, each mirrored back.

    Args:
        flips: sets of dimensions of the batch to mirror, e.g. `[[3], [2], [2, 3]]` for (B, C, H, W) images: left-right,
            up-down and both, four forward passes in all. Empty: one plain forward pass.
    """

    def __init__(self, flips: Sequence[Sequence[int]] = ((3,), (2,), (2, 3))):
        self.flips = [tuple(dims) for dims in flips]

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        total = network(inputs, *args, **kwargs)
        for dims in self.flips:
            mirrored = torch.flip(inputs, dims)
            total = total + torch.flip(network(mirrored, *args, **kwargs), dims)
        return total / (1 + len(self.flips))
