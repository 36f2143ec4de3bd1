"""Pictures of segmentations: contours on images, probability maps, grids. Arrays are uint8 RGB (H, W, 3)."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import find_boundaries
from torch import Tensor

__all__ = ["PREDICTION_COLOUR", "TRUTH_COLOUR", "as_picture", "contour", "heat_map", "picture_grid", "upscaled_pixels"]

# Okabe-Ito: distinguishable with every kind of colour vision, and seen on skin as well as on grey.
TRUTH_COLOUR = (0, 158, 115)
PREDICTION_COLOUR = (230, 159, 0)

Picture = NDArray[np.uint8]


def as_picture(image: Tensor, bands: Sequence[int] = (0, 1, 2)) -> Picture:
    """(C, H, W) in [0, 1] -> uint8 (H, W, 3); the channels `bands` are red, green and blue, fewer than three grey."""
    image = image[list(bands)] if len(image) > max(bands) else image[:1]
    pixels = (image.detach().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def upscaled_pixels(picture: Picture, height: int) -> Picture:
    """`picture` with every pixel repeated so that it is `height` high, for showing a low resolution as it is."""
    factor = height // picture.shape[0]
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def contour(picture: Picture, mask: NDArray[np.bool_], colour: Sequence[int]) -> Picture:
    """`picture` with the outline of `mask` (H, W) drawn in `colour`, about 1/200 of the longer side wide."""
    width = max(1, round(max(mask.shape) / 200))
    line = find_boundaries(mask, mode="thick")
    for _ in range(width - 1):
        line = find_boundaries(line, mode="thick") | line
    drawn = picture.copy()
    drawn[line] = colour
    return drawn


def heat_map(probability: NDArray[np.floating]) -> Picture:
    """Probabilities (H, W) in [0, 1] in matplotlib's perceptually uniform colours `magma`."""
    colours = matplotlib.colormaps["magma"](np.clip(probability, 0, 1))[..., :3]
    return np.round(colours * 255).astype(np.uint8)


def picture_grid(rows: Sequence[Sequence[Picture]], *, gap: int = 4, least: int = 1) -> Picture:
    """Pictures of one size laid out in rows, `gap` white pixels apart.

    Pictures whose shorter side is below `least` are shown at the smallest whole multiple of their size that is not.
    """
    times = -(-least // min(rows[0][0].shape[:2]))
    rows = [[picture.repeat(times, 0).repeat(times, 1) for picture in row] for row in rows]
    height, width = rows[0][0].shape[:2]
    columns = max(map(len, rows))
    grid = np.full((len(rows) * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            top, left = r * (height + gap), c * (width + gap)
            grid[top : top + height, left : left + width] = picture
    return grid
