"""Sets of masks compared as sets: generalised energy distance and Hungarian IoU (Kohl et al. 2018), best Dice.

`samples` (B, M, H, W) are compared with the `masks` (B, R, H, W) of the raters present; shapes, types and presence as
in `monai_ext.formulas.votes`. Only the foreground counts; two empty masks have IoU and Dice 1. Scores are float64.

All overlaps of a case come from one matrix product of its flattened masks with themselves. Memory beyond the arguments:
13 MiB for one block of pixels (8 in float32, the rest bool and products) and B (M + R)^2 float64, at any image size.

Of K structures, (B, M, K, H, W), `per_structure` scores each by itself; the mean of the energy distances over the
structures is that with d = 1 - mean IoU (as over the classes of Kohl et al. 2018). `joint_structures` scores samples as
a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from monai_ext.formulas.checks import check_choice, check_masks, has_labels
from monai_ext.formulas.energy import mean_within
from monai_ext.formulas.overlaps import dice_of_counts, iou_of_counts, overlap_counts, pair_totals
from monai_ext.formulas.votes import mean_over_raters, present_raters
from monai_ext.metrics.raters import RaterScore

__all__ = [
    "EnergyTerms",
    "GeneralizedEnergyDistance",
    "HungarianIoU",
    "RaterAgreement",
    "SetScores",
    "dice_match",
    "dice_max",
    "energy_terms",
    "generalized_energy_distance",
    "hungarian_iou",
    "overlap_counts",
    "pairwise_dice",
    "pairwise_iou",
    "rater_agreement",
    "sample_diversity",
    "set_scores",
]


def _iou(counts: Tensor) -> Tensor:
    return iou_of_counts(counts, pair_totals(counts))


def _dice(counts: Tensor) -> Tensor:
    return dice_of_counts(counts, pair_totals(counts))


class _Sets(NamedTuple):
    """Both sets, checked and counted: `counts` as `overlap_counts`, the first M samples; `present` (B, R)."""

    counts: Tensor
    samples: int
    present: Tensor

    def across(self, similarity: Callable[[Tensor], Tensor]) -> Tensor:
        return similarity(self.counts)[:, : self.samples, self.samples :]  # (B, M, R)


def _compare(samples: Tensor, masks: Tensor, presence: Tensor | None) -> _Sets:
    present = present_raters(masks, presence)
    check_masks("samples", samples, like=masks)
    has_labels("samples", samples)
    return _Sets(overlap_counts(samples, masks), samples.shape[1], present)


def pairwise_iou(samples: Tensor, masks: Tensor) -> Tensor:
    """IoU of every sample with every mask: (B, M, R)."""
    return _compare(samples, masks, None).across(_iou)


def pairwise_dice(samples: Tensor, masks: Tensor) -> Tensor:
    """Dice of every sample with every mask: (B, M, R); for heads and raters the diagonal should be largest."""
    return _compare(samples, masks, None).across(_dice)


class EnergyTerms(NamedTuple):
    """The parts of the energy distance, so that diversities can be read side by side, and M printed with them."""

    across: Tensor  # (B,) E d(S, Y)
    within_samples: Tensor  # (B,) E d(S, S')
    within_raters: Tensor  # (B,) E d(Y, Y')
    samples: int  # M
    raters: Tensor  # (B,) K, int64

    @property
    def squared_distance(self) -> Tensor:
        return 2 * self.across - self.within_samples - self.within_raters


def energy_terms(
    samples: Tensor, masks: Tensor, *, presence: Tensor | None = None, estimator: str = "V"
) -> EnergyTerms:
    """Mean distances d = 1 - IoU across and within the two sets, see `generalized_energy_distance`."""
    _check_estimator(estimator, samples=samples.shape[1], raters=masks.shape[1])
    return _energy(_compare(samples, masks, presence), estimator)


def _energy(sets: _Sets, estimator: str) -> EnergyTerms:
    distance, first = 1 - _iou(sets.counts), sets.samples
    weight = sets.present.double()
    raters = weight.sum(1)
    return EnergyTerms(
        across=torch.einsum("bmr,br->b", distance[:, :first, first:], weight) / (first * raters),
        within_samples=mean_within(distance[:, :first, :first], estimator=estimator),
        within_raters=mean_within(distance[:, first:, first:], estimator=estimator, weight=weight),
        samples=first,
        raters=sets.present.sum(1),
    )


def _check_estimator(estimator: str, **counts: int) -> None:
    if estimator not in ("V", "U"):
        raise ValueError(f"estimator={estimator!r} must be 'V' (self pairs in) or 'U' (self pairs out).")
    for name, count in counts.items():
        if estimator == "U" and count < 2:
            raise ValueError(f"the U-statistic needs two {name}, got {count}: take more, or estimator='V'.")


def generalized_energy_distance(
    samples: Tensor, masks: Tensor, *, presence: Tensor | None = None, estimator: str = "V"
) -> Tensor:
    """Generalised energy distance squared, 2 E d(S, Y) - E d(S, S') - E d(Y, Y') with d = 1 - IoU: (B,).

    Kohl et al. 2018, equation 4. The value depends on M, so print M with it; `energy_terms` returns the parts and M.

    Args:
        samples: masks (B, M, H, W), bool or integers.
        masks, presence: raters (B, R, H, W) and who is present (B, R), see the module.
        estimator: "V" takes the mean over all M^2 (K^2) ordered pairs, a mask with itself included, as the literature
            does: never negative, biased upwards by E d(S, S') / M + E d(Y, Y') / K. "U" leaves self pairs out:
            unbiased, can be negative, and never above "V".

    A case without raters is NaN; with "U" also a case with a single one present.

    Raises:
        ValueError: shapes or types do not fit, `estimator` is unknown, or "U" has fewer than two masks in a set.

    >>> masks = torch.tensor([[[[1, 1, 0, 0]], [[1, 0, 0, 0]]]])   # IoU 1/2
    >>> generalized_energy_distance(masks[:, :1], masks)           # 2 * 1/4 - 0 - 1/4
    tensor([0.2500], dtype=torch.float64)
    """
    return energy_terms(samples, masks, presence=presence, estimator=estimator).squared_distance


def sample_diversity(masks: Tensor, *, presence: Tensor | None = None, estimator: str = "V") -> Tensor:
    """Mean distance E d(S, S') with d = 1 - IoU within one set, samples or raters: (B,); see `energy_terms`."""
    _check_estimator(estimator, masks=masks.shape[1])
    present = present_raters(masks, presence)
    return mean_within(1 - _iou(overlap_counts(masks)), estimator=estimator, weight=present)


def hungarian_iou(samples: Tensor, masks: Tensor, *, presence: Tensor | None = None) -> Tensor:
    """Mean IoU of the best assignment of both sets, each repeated to the least common multiple of M and K: (B,).

    Kohl et al. 2019 (hierarchical probabilistic U-Net). The IoU matrices are moved to the host once. NaN for a case
    without raters.
    """
    sets = _compare(samples, masks, presence)
    return _on_host(sets.across(_iou), sets.present, _repeated_match)


def dice_match(samples: Tensor, masks: Tensor, *, presence: Tensor | None = None) -> Tensor:
    """Mean Dice over raters, each assigned its own sample so that the sum of Dice is largest: (B,).

    NaN for a case without raters, or with fewer samples than raters.
    """
    sets = _compare(samples, masks, presence)
    return _on_host(sets.across(_dice), sets.present, _single_match)


def _on_host(similarity: Tensor, present: Tensor, score: Callable[[np.ndarray], float]) -> Tensor:
    """`score` of the (M, K) matrix of each case, (B,) on the device: one transfer there, one back."""
    tables = similarity.masked_fill(~present[:, None], torch.nan).cpu().numpy()  # a missing rater: a column of NaN
    values = [score(table[:, ~np.isnan(table[0])]) for table in tables]
    return torch.tensor(values, dtype=torch.float64, device=similarity.device)


def _repeated_match(table: np.ndarray) -> float:
    samples, raters = table.shape
    if raters == 0:
        return math.nan
    length = math.lcm(samples, raters)
    table = table.repeat(length // samples, axis=0).repeat(length // raters, axis=1)
    return float(table[linear_sum_assignment(table, maximize=True)].mean())


def _single_match(table: np.ndarray) -> float:
    samples, raters = table.shape
    if raters == 0 or samples < raters:
        return math.nan
    return float(table[linear_sum_assignment(table, maximize=True)].mean())


def dice_max(samples: Tensor, masks: Tensor, *, presence: Tensor | None = None, each: str = "rater") -> Tensor:
    """Mean over raters of the Dice of the best sample of each: (B,), NaN for a case without raters.

    It grows with M by itself. each="sample" is the other direction: mean over samples of the best rater.

    Raises:
        ValueError: `each` is neither, or shapes or types do not fit.
    """
    check_choice("each", each, ("rater", "sample"))
    sets = _compare(samples, masks, presence)
    dice = sets.across(_dice)
    if each == "rater":
        return mean_over_raters(dice.amax(1), sets.present)
    best = dice.masked_fill(~sets.present[:, None], -1).amax(2).mean(1)
    return best.masked_fill(~sets.present.any(1), torch.nan)


def rater_agreement(masks: Tensor, *, presence: Tensor | None = None) -> Tensor:
    """Mean Dice over the pairs of raters, the rater ceiling: (B,), NaN where fewer than two are present."""
    present = present_raters(masks, presence)
    return _agreement(overlap_counts(masks), present)


def _agreement(counts: Tensor, present: Tensor) -> Tensor:
    return 1 - mean_within(1 - _dice(counts), estimator="U", weight=present)


def set_scores(
    samples: Tensor, masks: Tensor, *, presence: Tensor | None = None, estimator: str = "V"
) -> dict[str, Tensor]:
    """All scores of this module by the name of their function, each (B,), from one count of overlaps.

    `rater_diversity` is E d(Y, Y'), to be read beside `sample_diversity`.
    """
    _check_estimator(estimator, samples=samples.shape[1], raters=masks.shape[1])
    sets = _compare(samples, masks, presence)
    terms = _energy(sets, estimator)
    iou, dice = sets.across(_iou), sets.across(_dice)
    return {
        "generalized_energy_distance": terms.squared_distance,
        "sample_diversity": terms.within_samples,
        "rater_diversity": terms.within_raters,
        "hungarian_iou": _on_host(iou, sets.present, _repeated_match),
        "dice_match": _on_host(dice, sets.present, _single_match),
        "dice_max": mean_over_raters(dice.amax(1), sets.present),
        "rater_agreement": _agreement(sets.counts[:, sets.samples :, sets.samples :], sets.present),
    }


class _SetScore(RaterScore):
    """A score of samples (B, M, H, W), floating ones being foreground above `threshold`; `samples` is M."""

    samples: int | None = None

    def reset(self) -> None:
        super().reset()
        self.samples = None

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, presence: Tensor | None = None, **kwargs: Any):
        if self.samples not in (None, y_pred.shape[1]):
            raise ValueError(
                f"{self}: {y_pred.shape[1]} samples after cases with {self.samples}: the score depends on their "
                "number, take as many for every case or call reset() between sets."
            )
        self.samples = y_pred.shape[1]
        return super()._compute_tensor(y_pred, y, presence=presence)

    def __str__(self) -> str:
        return f"{type(self).__name__}(M={self.samples})"


class GeneralizedEnergyDistance(_SetScore):
    """Mean of `generalized_energy_distance` over cases; M is the attribute `samples`, and must not change."""

    def __init__(self, *, estimator: str = "V", threshold: float = 0.5, structures: int | None = None):
        _check_estimator(estimator)
        super().__init__(generalized_energy_distance, estimator=estimator, threshold=threshold, structures=structures)


class HungarianIoU(_SetScore):
    """Mean of `hungarian_iou` over cases; M is the attribute `samples`, and must not change."""

    def __init__(self, *, threshold: float = 0.5, structures: int | None = None):
        super().__init__(hungarian_iou, threshold=threshold, structures=structures)


class SetScores(_SetScore):
    """Means of all `set_scores` over cases, by name; M is the attribute `samples`, and must not change."""

    def __init__(self, *, estimator: str = "V", threshold: float = 0.5, structures: int | None = None):
        _check_estimator(estimator)
        super().__init__(set_scores, estimator=estimator, threshold=threshold, structures=structures)


class RaterAgreement(RaterScore):
    """Mean of `rater_agreement` over cases; y_pred is not read, so that it can stand beside the scores of a method."""

    def __init__(self, *, structures: int | None = None):
        super().__init__(_agreement_of_masks, structures=structures)


def _agreement_of_masks(prediction: Tensor, masks: Tensor, *, presence: Tensor | None = None) -> Tensor:
    return rater_agreement(masks, presence=presence)
