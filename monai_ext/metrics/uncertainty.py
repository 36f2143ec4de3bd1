"""Scores of a predicted mean and variance against the target, image by image, and pooled over a data set.

rmse, sd       root mean squared error, and root mean variance: alike for a calibrated prediction
nll, crps      of the distribution of that mean and variance, see `monai_ext.formulas.likelihoods`
coverage       share of values inside the central interval of nominal share 1 - alpha (PICP)
width          mean width of these intervals (MPIW), not cut to [0, 1]
winkler        their interval score
ause           area between the sparsification curves by uncertainty and by error; 0 is a perfect order
uce, ence      calibration of the variance, pooled over all images, see `uncertainty_tables`
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from torch import Tensor

from monai_ext.formulas.images import as_wide
from monai_ext.formulas.likelihoods import family_of, interval_score
from monai_ext.metrics.image_scores import ImageScores
from monai_ext.metrics.uncertainty_tables import (
    ROUNDING_SD,
    UncertaintyTable,
    binned_sparsification_error,
    expected_normalized_calibration_error,
    uncertainty_calibration_error,
    uncertainty_table,
)
from monai_ext.runtime.ranks import is_distributed

__all__ = ["UNCERTAINTY_SCORES", "UncertaintyScores"]

UNCERTAINTY_SCORES = ("rmse", "sd", "nll", "crps", "coverage", "width", "winkler", "ause")


class UncertaintyScores(ImageScores):
    """`UNCERTAINTY_SCORES` of each image and the pooled `uce` and `ence`, as a MONAI metric.

    Called as metric(mean, target, variance=...) with (B, C, H, W) on the [0, 1] scale: one instance for each kind of
    uncertainty. Memory does not grow with the images, but for eight numbers of each: all curves come from one
    `UncertaintyTable`, which stays on the device. `latest` is the table of each image of the last call.

    Args:
        family: "gaussian" or "laplace", of likelihood, CRPS and nominal intervals.
        alpha: share of values that the intervals may miss.
        floor: smallest standard deviation, see `uncertainty_table`.
        groups: of UCE and ENCE.

    Raises:
        ValueError: an unknown family, `alpha` outside (0, 1), shapes that differ.
    """

    def __init__(self, *, family: str = "gaussian", alpha: float = 0.1, floor: float = ROUNDING_SD, groups: int = 15):
        super().__init__()
        if not 0 < alpha < 1:
            raise ValueError(f"alpha={alpha} must lie between 0 and 1: it is the share that may lie outside.")
        self.family, self.alpha, self.floor, self.groups = family_of(family), alpha, floor, groups

    def reset(self) -> None:
        super().reset()
        self._table: UncertaintyTable | None = None
        self.latest: UncertaintyTable | None = None

    def _scores(self, y_pred: Tensor, y: Tensor, variance: Tensor | None = None, **kwargs: Any) -> dict[str, Tensor]:
        if variance is None:
            raise ValueError("UncertaintyScores needs the predicted variance: call metric(mean, target, variance=...).")
        table = uncertainty_table(y_pred, variance, y, floor=self.floor)
        self.latest = table
        pooled = UncertaintyTable(*(part.sum(0) for part in table))
        self._table = pooled if self._table is None else _sum_of([self._table, pooled])
        mean, target, predicted = as_wide(y_pred), as_wide(y), as_wide(variance).clamp(min=0)
        variance = predicted.clamp(min=self.floor**2)
        half = self.family.half_width(mean.new_tensor(1 - self.alpha)) * variance.sqrt()
        values = {
            "rmse": (target - mean).square(),
            "sd": predicted,
            "nll": self.family.nll(mean, variance, target),
            "crps": self.family.crps(mean, variance, target),
            "coverage": ((target - mean).abs() <= half).to(mean.dtype),
            "width": 2 * half,
            "winkler": interval_score(mean - half, mean + half, target, alpha=self.alpha),
        }
        scores = {name: value.flatten(1).mean(1) for name, value in values.items()}
        scores |= {name: scores[name].sqrt() for name in ("rmse", "sd")}
        return scores | {"ause": binned_sparsification_error(table)}

    def table(self) -> UncertaintyTable:
        """The table of all images since `reset`, over all ranks (then on the CPU).

        Raises:
            ValueError: no image has been seen.
        """
        table = self._table
        if is_distributed():
            parts: list[UncertaintyTable | None] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(parts, table and UncertaintyTable(*(part.cpu() for part in table)))
            seen = [part for part in parts if part is not None]
            table = _sum_of(seen) if seen else None
        if table is None:
            raise ValueError(f"{type(self).__name__}: no image has been scored, the data set is empty.")
        return table

    def aggregate(self) -> dict[str, float]:
        """Means over images of `UNCERTAINTY_SCORES`; `uce` and `ence` of all their values together."""
        table = self.table()
        return super().aggregate() | {
            "uce": uncertainty_calibration_error(table, groups=self.groups).item(),
            "ence": expected_normalized_calibration_error(table, groups=self.groups).item(),
        }


def _sum_of(tables: list[UncertaintyTable]) -> UncertaintyTable:
    return UncertaintyTable(*(torch.stack(parts).sum(0) for parts in zip(*tables, strict=True)))
