"""Slow, plain definitions of distances between boundaries: loops over pixels and over pairs of pixels."""

from __future__ import annotations

import itertools
import math

import numpy as np


def boundary(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Pixels of the mask with a direct neighbour outside of it, or at the border of the image."""
    found = []
    for place in zip(*np.nonzero(mask), strict=True):
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            other = list(place)
            other[axis] += step
            inside = all(0 <= index < side for index, side in zip(other, mask.shape, strict=True))
            if not inside or not mask[tuple(other)]:
                found.append(tuple(int(index) for index in place))
                break
    return found


def distances(first: np.ndarray, second: np.ndarray, spacing) -> list[float]:
    """From each pixel of the first boundary to the nearest one of the second."""
    scaled = [[[i * s for i, s in zip(p, spacing, strict=True)] for p in boundary(m)] for m in (first, second)]
    return [min(math.dist(own, other) for other in scaled[1]) for own in scaled[0]]


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def hd95_and_assd(first: np.ndarray, second: np.ndarray, spacing) -> tuple[float, float]:
    there, back = distances(first, second, spacing), distances(second, first, spacing)
    everything = there + back
    return max(percentile(there, 0.95), percentile(back, 0.95)), sum(everything) / len(everything)
