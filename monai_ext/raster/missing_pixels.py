"""Missing pixels filled with the nearest known value."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt

__all__ = ["nearest_known"]


def nearest_known(values: np.ndarray, valid: np.ndarray, *, fallback: float | None = None) -> np.ndarray:
    """`values` (C, H, W) with the nearest known value of the same band where `valid` (1 or C, H, W) is False.

    As a network's input they do not bleed into the pixels beside them. `values` is not changed.

    Args:
        fallback: for bands without any known value; None leaves them as they are.
    """
    if valid.all():
        return values
    values = values.copy()
    nearest: tuple[np.ndarray, ...] = ()
    mask: np.ndarray | None = None
    for band, known in enumerate(np.broadcast_to(valid, values.shape)):
        if known.all():
            continue
        if not known.any():
            values[band] = values[band] if fallback is None else fallback
            continue
        if mask is None or not np.array_equal(known, mask):
            mask = known
            nearest = tuple(distance_transform_edt(~known, return_distances=False, return_indices=True))
        values[band] = values[band][nearest]
    return values
