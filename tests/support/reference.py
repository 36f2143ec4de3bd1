"""Slow, plain definitions that the fast ones are tested against: loops over pixels and cases, no torch."""

from __future__ import annotations

import numpy as np


def segmentation_scores(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Scores of one binary mask (H, W) by counting pixel after pixel."""
    tp = fp = fn = tn = 0
    for p, t in zip(prediction.ravel().tolist(), truth.ravel().tolist(), strict=True):
        if p and t:
            tp += 1
        elif p:
            fp += 1
        elif t:
            fn += 1
        else:
            tn += 1
    right = 1.0 if fp + fn == 0 else 0.0

    def ratio(a: float, b: float) -> float:
        return a / b if b else right

    jaccard, precision, sensitivity = ratio(tp, tp + fp + fn), ratio(tp, tp + fp), ratio(tp, tp + fn)
    return {
        "dice": ratio(2 * tp, 2 * tp + fp + fn),
        "jaccard": jaccard,
        "precision": precision,
        "sensitivity": sensitivity,
        "specificity": ratio(tn, tn + fp),
        "threshold_jaccard": jaccard if jaccard >= 0.65 else 0.0,
        "legacy_average_precision": average_precision(truth=prediction, scores=truth),
    }


def average_precision(*, truth: np.ndarray, scores: np.ndarray) -> float:
    """Sum over falling thresholds of (recall step) x precision; NaN-free only where truth has positives."""
    total, previous_recall = 0.0, 0.0
    positives = truth.sum()
    for threshold in sorted(set(scores.ravel().tolist()), reverse=True):
        chosen = scores >= threshold
        hits = (chosen & (truth > 0)).sum()
        recall = hits / positives if positives else 0.0
        total += (recall - previous_recall) * hits / chosen.sum()
        previous_recall = recall
    return float(total)
