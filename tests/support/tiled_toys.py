"""Networks for tiled inference."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Repeat(nn.Module):
    """Each pixel s times in both directions: what comes out is known, and no context matters."""

    def __init__(self, scale: int = 3):
        super().__init__()
        self.scale = scale
        self.calls: list[tuple[int, ...]] = []

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        self.calls.append(tuple(windows.shape))
        return functional.interpolate(windows, scale_factor=self.scale, mode="nearest")


@torch.no_grad()
def whole(network: nn.Module, image: torch.Tensor) -> torch.Tensor:
    return network(image)
