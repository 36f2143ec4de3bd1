"""Slow, plain definitions of super-resolution's operator and scores: loops over pixels in numpy, no torch."""

from __future__ import annotations

import math

import numpy as np


def cubic(x: float) -> float:
    """Keys' kernel with a = -1/2."""
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    if x < 2:
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return 0.0


def reduce_line(line: np.ndarray, scale: int) -> np.ndarray:
    """Antialiased bicubic reduction of a line, written after the description of Pillow's resampling."""
    result = []
    for i in range(len(line) // scale):
        centre = (i + 0.5) * scale
        total = weight_sum = 0.0
        for j in range(max(0, int(centre - 2 * scale)), min(len(line), int(centre + 2 * scale) + 1)):
            weight = cubic((j + 0.5 - centre) / scale)
            total += weight * line[j]
            weight_sum += weight
        result.append(total / weight_sum)
    return np.array(result)


def reduce_image(image: np.ndarray, scale: int) -> np.ndarray:
    """Lines, then columns, of an image (H, W)."""
    narrow = np.stack([reduce_line(line, scale) for line in image])
    return np.stack([reduce_line(column, scale) for column in narrow.T]).T


def luma(image: np.ndarray) -> np.ndarray:
    """(3, H, W) in [0, 1] -> (H, W) in [16/255, 235/255], from BT.601's weights of red, green and blue."""
    red, green, blue = image
    return (16 + 219 * (0.299 * red + 0.587 * green + 0.114 * blue)) / 255


def peak_signal_to_noise(prediction: np.ndarray, target: np.ndarray) -> float:
    errors = [(float(p) - float(t)) ** 2 for p, t in zip(prediction.ravel(), target.ravel(), strict=True)]
    mean = sum(errors) / len(errors)
    return math.inf if mean == 0 else -10 * math.log10(mean)


def structural_similarity(x: np.ndarray, y: np.ndarray) -> float:
    """Of (H, W) in [0, 1], window after window, each with its weighted means, variances and covariance."""
    offsets = np.arange(11) - 5
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    values = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            top = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
            values.append(top / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)))
    return float(np.mean(values))


def unit_feature_distance(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    """Of lists of maps (F, h, w): place after place, the vectors scaled to length one."""
    layers = []
    for a, b in zip(first, second, strict=True):
        places = []
        for i in range(a.shape[1]):
            for j in range(a.shape[2]):
                u, v = a[:, i, j], b[:, i, j]
                places.append(((u / np.linalg.norm(u) - v / np.linalg.norm(v)) ** 2).sum())
        layers.append(np.mean(places))
    return float(np.mean(layers))
