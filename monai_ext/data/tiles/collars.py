"""Undeclared collars of tiles: black or white where a survey's pictures end."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

__all__ = ["collar"]

TOLERANCE = 3  # levels of 255 within which a lossy file keeps one colour
RING = 8  # pixels around a collar that a lossy file mixes with it
LEAST = 0.005  # share of a tile; what is smaller is shade or a roof


def collar(pixels: np.ndarray, *, lossy: bool = False) -> np.ndarray:
    """Which pixels (H, W) of a tile (C, H, W) are an undeclared collar: black or white from a corner of the tile on.

    A collar is connected, contains a corner and takes at least half a percent of the tile. Black is 0, white the
    highest value of whole numbers. Bands decide together: all have to be at the same end.

    Args:
        lossy: the file was compressed with loss: values up to 3 of 255 count as black, and the 8 pixels around a
            collar, which were mixed with it, belong to it.

    >>> import numpy as np
    >>> tile = np.full((3, 64, 64), 90, np.uint8)
    >>> tile[:, :, :10] = 0
    >>> collar(tile).sum()
    np.int64(640)
    """
    height, width = pixels.shape[-2:]
    found = np.zeros((height, width), bool)
    if pixels.dtype.kind not in "iu":
        return found
    highest = int(np.iinfo(pixels.dtype).max)
    tolerance = TOLERANCE * highest // 255 if lossy else 0
    corners = np.ix_((0, height - 1), (0, width - 1))
    for at_end in ((pixels >= -tolerance) & (pixels <= tolerance), pixels == highest):
        same = np.logical_and.reduce(at_end)
        if same[corners].any() and same.mean() >= LEAST:
            labels, count = ndimage.label(same)
            chosen = np.bincount(labels.ravel(), minlength=count + 1) >= LEAST * labels.size
            chosen &= np.isin(np.arange(count + 1), labels[corners])
            chosen[0] = False
            found |= chosen[labels]
    if lossy and found.any():
        found = ndimage.binary_dilation(found, np.ones((3, 3), bool), iterations=RING)
    return found
