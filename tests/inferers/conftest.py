"""Fixtures of this folder."""

from __future__ import annotations

import pytest
import torch
from torch import nn


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Radius 3 (a 5x5 and a 3x3 convolution), twice as large, 2 -> 3 channels."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 8, 5, padding=2), nn.Tanh(), nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2)
    ).eval()
