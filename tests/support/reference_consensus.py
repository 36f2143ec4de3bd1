"""A slow, plain STAPLE: loops over pixels and raters, as in Warfield et al. 2004, equations 14, 18 and 19."""

from __future__ import annotations

import numpy as np


def slow_staple(masks: np.ndarray, iterations: int) -> tuple[np.ndarray, list[float], list[float]]:
    """Probability of the true mask, sensitivities and specificities of masks (R, *size) of 0/1."""
    raters, pixels = len(masks), masks[0].size
    marks = [[int(mask.ravel()[place]) for mask in masks] for place in range(pixels)]
    truth = [sum(marked) / raters for marked in marks]
    prior = sum(truth) / pixels
    for _ in range(iterations):
        sensitivity = [sum(w for w, m in zip(truth, marks, strict=True) if m[r]) / sum(truth) for r in range(raters)]
        specificity = [
            sum(1 - w for w, m in zip(truth, marks, strict=True) if not m[r]) / (pixels - sum(truth))
            for r in range(raters)
        ]
        for place, marked in enumerate(marks):
            inside, outside = prior, 1 - prior
            for r in range(raters):
                inside *= sensitivity[r] if marked[r] else 1 - sensitivity[r]
                outside *= 1 - specificity[r] if marked[r] else specificity[r]
            truth[place] = inside / (inside + outside)
    return np.array(truth).reshape(masks[0].shape), sensitivity, specificity
