"""Random images and shapes."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photographs(count: int = 6, size: tuple[int, ...] = (20, 31), channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, channels, *size), dtype=torch.uint8, generator=generator(1))


def blobs(count: int, size: tuple[int, int]) -> torch.Tensor:
    """Smooth random shapes, uint8 of 0/1, (count, 1, H, W)."""
    coarse = torch.rand(count, 1, 5, 5, generator=generator(2))
    return (F.interpolate(coarse, size, mode="bicubic") > 0.5).to(torch.uint8)


def volumes(*size: int, count: int = 1) -> torch.Tensor:
    """Random volumes (count, 1, *size), uint8."""
    return torch.randint(0, 256, (count, 1, *size), dtype=torch.uint8, generator=generator())
