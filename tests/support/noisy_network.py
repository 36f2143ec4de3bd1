"""Small networks whose outputs a test can follow."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Noisy(nn.Module):
    """Dropout and BatchNorm, the layers that know training from evaluation."""

    def __init__(self, p: float = 0.5):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(p), nn.Conv2d(8, 1, 1)
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


class Logits(nn.Module):
    """A network whose answer to any image is the image scaled by a number of its own: easy to follow."""

    def __init__(self, scale: float = 1.0, out_channels: int = 1):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))
        self.out_channels = out_channels

    def forward(self, image: Tensor) -> Tensor:
        return (self.scale * image).expand(-1, self.out_channels, -1, -1)
