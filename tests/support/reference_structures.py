"""Slow, plain definitions of scores of several structures: loops over structures, sets of (structure, pixel) pairs.

A case is `masks` (R, K, H, W) as 0/1 numpy arrays, `presence` (R, K); `samples` are (M, K, H, W), a map
(K, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np


def each_structure(score: Callable[..., float], *sets: np.ndarray, presence: np.ndarray) -> list[float]:
    """score(..., masks) of each structure, by the raters who marked it; a set of maps has its structures first."""
    *predictions, masks = sets
    values = []
    for k in range(masks.shape[1]):
        own = [array[k] if array.ndim == masks.ndim - 1 else array[:, k] for array in predictions]
        marked = np.array([masks[r, k] for r in range(len(masks)) if presence[r, k]])
        values.append(score(*own, marked) if len(marked) else math.nan)
    return values


def pairs(maps: np.ndarray) -> frozenset[tuple[int, ...]]:
    """The (structure, row, column) that one sample (K, H, W) marks."""
    return frozenset(place for place in np.ndindex(*maps.shape) if maps[place])


def joint_distance(first: frozenset, second: frozenset) -> float:
    union = first | second
    return 1 - len(first & second) / len(union) if union else 0.0


def joint_energy_distance(samples: np.ndarray, masks: np.ndarray, presence: np.ndarray) -> float:
    ours = [pairs(sample) for sample in samples]
    theirs = [pairs(mask) for mask, here in zip(masks, presence, strict=True) if all(here)]

    def mean(one: list[frozenset], other: list[frozenset]) -> float:
        return float(np.mean([joint_distance(a, b) for a in one for b in other]))

    return 2 * mean(ours, theirs) - mean(ours, ours) - mean(theirs, theirs)
