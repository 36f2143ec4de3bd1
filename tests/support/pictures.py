"""Small pictures in files."""

from __future__ import annotations

import numpy as np
from PIL import Image

ORIENTATION_TAG = 0x0112


def saved(path, picture, **options):
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **options)
    return path


def photograph(height, width):
    """A smooth uint8 (H, W, 3) picture, which JPEG keeps almost unchanged."""
    y, x = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    return (127 + 100 * np.stack([np.sin(5 * x), np.cos(4 * y), np.sin(3 * (x + y))], -1)).astype(np.uint8)
