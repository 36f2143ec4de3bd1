"""Fit of the temperature at which probabilities have the lowest log loss against one or several raters."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor

from monai_ext.formulas.votes import rater_votes
from monai_ext.metrics.raters import probability_map

__all__ = ["LogitTable"]

HIGHEST_LOGIT = math.log(1e7 - 1)  # of probabilities in float32 near 1
BINS = 4096  # of 0.008: losses are exact to 1e-5
HOTTEST = 20.0


class LogitTable:
    """Sums over pixels by their logit, from which the log loss of all cases at any temperature follows.

    The loss is the mean over cases of the mean over pixels of the cross-entropy with the share of raters who mark a
    pixel, which is the mean over raters of the cross-entropy with their masks. Pixels of probability 0 or 1 are left
    out: no temperature changes them. Memory does not grow with the cases.
    """

    def __init__(self) -> None:
        self.cases = 0
        self.weight, self.logits = torch.zeros(2, BINS, dtype=torch.float64)
        self.marked = 0.0  # sum of logits times shares

    def add(self, probability: Tensor, masks: Tensor, *, presence: Tensor | None = None) -> None:
        """Add cases, see `expected_calibration_error`; those that nobody marked are left out.

        Raises:
            ValueError: shapes do not fit, or probabilities are NaN or outside [0, 1].
        """
        flat, valid = probability_map(probability, masks)
        if not valid.all():
            raise ValueError("some probabilities are NaN or outside [0, 1].")
        votes, voters = rater_votes(masks, presence=presence)
        for p, marks, count in zip(flat.cpu(), votes.flatten(1).cpu(), voters.tolist(), strict=True):
            if not count:
                continue
            self.cases += 1
            inside = (p > 0) & (p < 1)
            logits = p[inside].double().logit().clamp(-HIGHEST_LOGIT, HIGHEST_LOGIT)
            share = marks[inside].double() / count
            places = ((logits / HIGHEST_LOGIT + 1) / 2 * BINS).long().clamp(max=BINS - 1)
            self.weight += places.bincount(minlength=BINS) / len(p)
            self.logits += places.bincount(logits, minlength=BINS) / len(p)
            self.marked += (logits * share).sum().item() / len(p)

    def log_loss(self, temperature: float) -> float:
        """Mean log loss in nats at a temperature."""
        mean = self.logits / self.weight.clamp(min=1e-300)
        return ((self.weight * F.softplus(mean / temperature)).sum().item() - self.marked / temperature) / self.cases

    def best_temperature(self) -> float:
        """The temperature of the lowest log loss, between 1 / `HOTTEST` and `HOTTEST`.

        Raises:
            ValueError: there are no cases, or no pixel has a probability between 0 and 1.
        """
        if not self.weight.any():
            raise ValueError(f"{self.cases} cases have no probability between 0 and 1: there is no temperature to fit.")
        bound = math.log(HOTTEST)
        found = minimize_scalar(
            lambda log: self.log_loss(math.exp(log)), bounds=(-bound, bound), method="bounded", options={"xatol": 1e-5}
        )
        return math.exp(found.x)
