"""Regions of interest of images: where they lie, and maps that were predicted for them brought back to the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

__all__ = ["Region", "paste_region", "region_of_interest"]

Region = tuple[int, int, int, int]  # first row, first column, height, width


def region_of_interest(size: Sequence[int], zoom: float, centre: Sequence[float] | None = None) -> Region:
    """The region of 1 / zoom of the height and width of an image of this size (H, W), whole pixels inside of it.

    >>> region_of_interest((128, 96), 2.0)
    (32, 24, 64, 48)
    >>> region_of_interest((128, 96), 2.0, (10, 60))
    (0, 36, 64, 48)

    Args:
        zoom: at least 1.
        centre: row and column, as a click gives them; None: the image's own. Near a border the region is moved inside.
    """
    height, width = (max(1, round(side / zoom)) for side in size)
    row, column = (side / 2 for side in size) if centre is None else centre
    top = min(max(round(row - height / 2), 0), size[0] - height)
    left = min(max(round(column - width / 2), 0), size[1] - width)
    return top, left, height, width


def paste_region(maps: Tensor, region: Sequence[int], size: Sequence[int]) -> Tensor:
    """Maps of a region, (..., h, w), at their place in an image of this size, (..., H, W), 0 outside; float32.

    They are resized to the region bilinearly, antialiased where they shrink; float values stay in [0, 1] if they were.
    """
    top, left, height, width = (int(number) for number in region)
    maps = maps.float()
    if maps.shape[-2:] != (height, width):
        flat = maps.reshape(-1, 1, *maps.shape[-2:])
        flat = F.interpolate(flat, (height, width), mode="bilinear", antialias=True)
        maps = flat.reshape(*maps.shape[:-2], height, width).clamp(maps.min(), maps.max())
    return F.pad(maps, (left, size[1] - left - width, top, size[0] - top - height))
