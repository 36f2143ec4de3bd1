"""Slow, plain definitions of scores of uncertainty: loops over values, integrals by small steps, no torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np


def gaussian_density(x: float, mean: float, variance: float) -> float:
    return math.exp(-((x - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)


def laplace_density(x: float, mean: float, variance: float) -> float:
    scale = math.sqrt(variance / 2)
    return math.exp(-abs(x - mean) / scale) / (2 * scale)


def crps(density: Callable[[float, float, float], float], mean: float, variance: float, target: float) -> float:
    """Integral of (F(x) - [x >= y])^2, by steps of a thousandth of the standard deviation."""
    sd = math.sqrt(variance)
    step = sd / 1000
    low = min(mean - 12 * sd, target - sd)
    high = max(mean + 12 * sd, target + sd)
    total = cumulative = 0.0
    x = low + step / 2
    while x < high:
        half = density(x, mean, variance) * step / 2
        total += (cumulative + half - (1.0 if x >= target else 0.0)) ** 2 * step
        cumulative += 2 * half
        x += step
    return total


def sample_crps(samples: list[float], target: float, *, fair: bool) -> float:
    n = len(samples)
    first = sum(abs(x - target) for x in samples) / n
    pairs = sum(abs(x - y) for x, y in product(samples, samples))
    return first - pairs / (n * (n - 1) if fair else n * n) / 2


def groups_by_variance(variance: np.ndarray, squared: np.ndarray, groups: int) -> list[tuple[int, float, float]]:
    """Size, mean variance and mean squared error of groups of nearly equal count, in order of variance."""
    order = np.argsort(variance, kind="stable")
    return [
        (len(part), float(variance[part].mean()), float(squared[part].mean())) for part in np.array_split(order, groups)
    ]


def uce(variance: np.ndarray, squared: np.ndarray, groups: int) -> float:
    parts = groups_by_variance(variance, squared, groups)
    return sum(n * abs(error - predicted) for n, predicted, error in parts) / len(variance)


def ence(variance: np.ndarray, squared: np.ndarray, groups: int) -> float:
    parts = groups_by_variance(variance, squared, groups)
    return sum(abs(math.sqrt(e) - math.sqrt(v)) / math.sqrt(v) for _, v, e in parts) / groups


def sparsification_error(uncertainty: np.ndarray, error: np.ndarray, steps: int) -> float:
    """Mean gap of the two curves at the removed shares 0, 1/steps ...; without ties, and `steps` divides the values."""
    squared = error**2
    by_uncertainty = squared[np.argsort(uncertainty)]
    by_error = np.sort(squared)
    whole = math.sqrt(squared.mean())
    gaps = []
    for step in range(steps):
        kept = len(error) - step * len(error) // steps
        gaps.append((math.sqrt(by_uncertainty[:kept].mean()) - math.sqrt(by_error[:kept].mean())) / whole)
    return sum(gaps) / steps


def interval(mean: float, sd: float, target: float, multiplier: float, alpha: float) -> tuple[bool, float, float]:
    """Whether it covers, width, Winkler score."""
    low, high = mean - multiplier * sd, mean + multiplier * sd
    miss = max(low - target, 0.0, target - high)
    return miss == 0, high - low, high - low + 2 / alpha * miss


def distance(first: np.ndarray, second: np.ndarray) -> float:
    return math.sqrt(float(((first - second) ** 2).mean()))


def energy_score(samples: list[np.ndarray], targets: list[np.ndarray]) -> float:
    n = len(samples)
    between = [distance(x, y) for x in samples for y in targets]
    within = [distance(samples[i], samples[j]) for i in range(n) for j in range(n) if i != j]
    return sum(between) / len(between) - sum(within) / len(within) / 2


def energy_distance(samples: list[np.ndarray], targets: list[np.ndarray]) -> float:
    def mean(first: list[np.ndarray], second: list[np.ndarray]) -> float:
        return sum(distance(x, y) for x, y in product(first, second)) / (len(first) * len(second))

    return 2 * mean(samples, targets) - mean(samples, samples) - mean(targets, targets)


def ntire_diversity(samples: list[np.ndarray], target: np.ndarray) -> float:
    maps = [((sample - target) ** 2).mean(0) for sample in samples]
    global_best = min(float(m.mean()) for m in maps)
    height, width = maps[0].shape
    local = sum(min(m[i, j] for m in maps) for i in range(height) for j in range(width)) / (height * width)
    return 100 * (global_best - local) / global_best


def precision_recall(samples: list[np.ndarray], targets: list[np.ndarray], neighbours: int) -> tuple[float, float]:
    def reach(images: list[np.ndarray], i: int) -> float:
        return sorted(distance(images[i], images[j]) for j in range(len(images)) if j != i)[neighbours - 1]

    def share(images: list[np.ndarray], others: list[np.ndarray]) -> float:
        hits = sum(any(distance(x, y) <= reach(others, j) for j, y in enumerate(others)) for x in images)
        return hits / len(images)

    return share(samples, targets), share(targets, samples)


def binomial_cumulative(successes: int, trials: int, probability: float) -> float:
    return sum(math.comb(trials, k) * probability**k * (1 - probability) ** (trials - k) for k in range(successes + 1))
