"""Slow, plain definitions of the scores for several raters: loops over pixels and pairs, fractions, no torch.

A case is `masks` (K, H, W) of the raters present, as 0/1 numpy arrays; `samples` is (M, H, W).
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np


def overlap(a: np.ndarray, b: np.ndarray) -> tuple[int, int, int]:
    """Pixels in both, in the first, in the second."""
    pairs = list(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    return sum(1 for x, y in pairs if x and y), sum(1 for x, _ in pairs if x), sum(1 for _, y in pairs if y)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    both, first, second = overlap(a, b)
    return 2 * both / (first + second) if first + second else 1.0


def iou(a: np.ndarray, b: np.ndarray) -> float:
    both, first, second = overlap(a, b)
    return both / (first + second - both) if first + second else 1.0


def level_set(masks: np.ndarray, tenths: int, strict: bool) -> np.ndarray:
    """Pixels marked by a share of at least (more than) tenths/10 of the masks, in exact fractions."""
    result = np.zeros(masks.shape[1:], dtype=bool)
    for place in np.ndindex(*masks.shape[1:]):
        share = Fraction(sum(int(mask[place]) for mask in masks), len(masks))
        result[place] = share > Fraction(tenths, 10) if strict else share >= Fraction(tenths, 10)
    return result


def qubiq(probability: np.ndarray, masks: np.ndarray, tenths=range(1, 10), strict: bool = False) -> float:
    scores = []
    for i in tenths:
        level = probability.dtype.type(i / 10)
        predicted = probability > level if strict else probability >= level
        scores.append(dice(predicted, level_set(masks, i, strict)))
    return sum(scores) / len(scores)


def leave_one_out(masks: np.ndarray) -> list[float]:
    scores = []
    for r in range(len(masks)):
        others = np.array([mask for k, mask in enumerate(masks) if k != r])
        scores.append(dice(masks[r], level_set(others, 5, strict=False)))
    return scores


def mean_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Mean of 1 - IoU over all ordered pairs."""
    return float(np.mean([1 - iou(a, b) for a in first for b in second]))


def mean_distance_without_self(masks: np.ndarray) -> float:
    return float(np.mean([1 - iou(a, b) for a, b in itertools.permutations(masks, 2)]))


def energy_distance(samples: np.ndarray, masks: np.ndarray, estimator: str = "V") -> float:
    if estimator == "V":
        within = mean_distance(samples, samples) + mean_distance(masks, masks)
    else:
        within = mean_distance_without_self(samples) + mean_distance_without_self(masks)
    return 2 * mean_distance(samples, masks) - within


def hungarian_iou(samples: np.ndarray, masks: np.ndarray) -> float:
    """The best of all permutations of the repeated sets."""
    length = math.lcm(len(samples), len(masks))
    left = [a for a in samples for _ in range(length // len(samples))]
    right = [b for b in masks for _ in range(length // len(masks))]
    table = [[iou(a, b) for b in right] for a in left]
    return (
        max(sum(table[i][j] for i, j in enumerate(order)) for order in itertools.permutations(range(length))) / length
    )


def dice_match(samples: np.ndarray, masks: np.ndarray) -> float:
    """The best of all ways to give each rater a sample of its own."""
    table = [[dice(a, b) for a in samples] for b in masks]
    choices = itertools.permutations(range(len(samples)), len(masks))
    return max(sum(table[r][m] for r, m in enumerate(choice)) for choice in choices) / len(masks)


def dice_max(samples: np.ndarray, masks: np.ndarray) -> float:
    return float(np.mean([max(dice(a, b) for a in samples) for b in masks]))


def agreement(masks: np.ndarray) -> float:
    return float(np.mean([dice(a, b) for a, b in itertools.combinations(masks, 2)]))


def bin_gaps(probability: np.ndarray, truth: np.ndarray, bins: int) -> tuple[list[float], list[int]]:
    """|mean probability - mean truth| and pixel count of each bin that holds a pixel; `truth` may be a share."""
    members: dict[int, list[tuple[float, float]]] = {}
    for p, y in zip(probability.ravel().tolist(), truth.ravel().tolist(), strict=True):
        index = max(i for i in range(bins) if p >= i / bins)
        members.setdefault(index, []).append((p, float(y)))
    gaps = [abs(sum(p for p, _ in pairs) - sum(y for _, y in pairs)) / len(pairs) for pairs in members.values()]
    return gaps, [len(pairs) for pairs in members.values()]


def calibration_errors(probability: np.ndarray, truth: np.ndarray, bins: int) -> dict[str, float]:
    gaps, counts = bin_gaps(probability, truth, bins)
    return {
        "ece": sum(gap * count for gap, count in zip(gaps, counts, strict=True)) / sum(counts),
        "ace": sum(gaps) / len(gaps),
        "mce": max(gaps),
        "brier": float(np.mean((probability.astype(float) - truth) ** 2)),
    }


def area_under_risk_coverage(confidence: list[float], risk: list[float]) -> float:
    """Mean over all orders that sort by falling confidence, one for each order of the ties."""
    areas = []
    for order in itertools.permutations(range(len(risk))):
        sorted_confidence = [confidence[i] for i in order]
        if sorted_confidence == sorted(confidence, reverse=True):
            means = [sum(risk[i] for i in order[: k + 1]) / (k + 1) for k in range(len(order))]
            areas.append(sum(means) / len(means))
    return sum(areas) / len(areas)
