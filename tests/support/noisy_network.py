"""A small network that differs in training and evaluation mode."""

from __future__ import annotations

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
