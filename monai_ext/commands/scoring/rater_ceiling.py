"""The rater ceiling: scores of the raters of one case against each other, beside those of a method.

Each rater present is left out in turn and held against the K - 1 others; the mean over raters:

* scores of a map: the one left out is the prediction (a map of 0 and 1), the others are the targets;
* Hungarian IoU and best Dice: the others are the set, the one left out is the target;
* energy distance and diversity, which depend on the size of a set by themselves: their expected values for as many
  masks M as the method has, drawn by raters such as these. With D = E d(Y, Y') over different raters these are
  D (1/M + 1/K) and D (1 - 1/M) under the V-statistic, 0 and D under U;
* scores with a rater's own head: the mean score of the others with this rater.

It is what one more rater would score. A map learnt from all raters may do better where spread is rewarded
(QUBIQ score, calibration). A single rater has no ceiling.

No image is gone through for each rater anew: all pairs come from one matrix of overlaps, all levels of the vote
from how many pixels of a rater have how many votes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from monai_ext.formulas.overlaps import dice_of_counts, iou_of_counts, pair_totals
from monai_ext.metrics import (
    DICE_SOFT_TENTHS,
    QUBIQ_TENTHS,
    boundary_scores,
    consensus_mask,
    overlap_counts,
    pairwise_boundary_scores,
    votes_reach,
)

__all__ = ["others_with_each", "rater_ceiling"]


def rater_ceiling(
    masks: Tensor,
    presence: Tensor,
    *,
    set_size: int,
    strict: bool = False,
    estimator: str = "V",
    bins: int = 15,
    spacing: Sequence[float] | None = None,
    tolerance: float = 2.0,
    boundaries: bool = True,
) -> dict[str, float]:
    """Scores of the raters by the names of the method's, and "rater_agreement", their mean pairwise Dice.

    What a mask cannot have (correlation with disagreement, confidence) is absent; all are where fewer than two
    raters are present.

    Args:
        masks: (R, *size), bool or integers, non-zero is foreground.
        presence: (R,) bool.
        set_size: masks M in the method's set; 0 where it has none.
        strict, estimator, bins, spacing, tolerance: as of the method's scores.
        boundaries: False leaves out distances between boundaries, which take most of the time.
    """
    present = (masks[presence] != 0).flatten(1)  # (K, pixels)
    if len(present) < 2:
        return {}
    counts = overlap_counts(present[None])[0]
    dice, iou = _similarities(counts)
    diversity = 1 - _mean_of_pairs(iou)
    closest = dice.masked_fill(_diagonal(dice), -1).amax(0).mean()
    by_set = 1 / set_size if set_size and estimator == "V" else 0.0
    by_raters = 1 / len(present) if estimator == "V" else 0.0
    scores = {
        **_levels(present, counts.diagonal(), strict),
        "dice_each_rater": _mean_of_pairs(dice),
        "jaccard_each_rater": _mean_of_pairs(iou),
        **(_boundaries(masks[presence] != 0, strict, spacing, tolerance) if boundaries else {}),
        **_calibration(counts, present.shape[1], bins),
        "generalized_energy_distance": diversity * (by_set + by_raters),
        "hungarian_iou": _mean_of_pairs(iou),
        "dice_match": closest,
        "dice_max": closest,
        "sample_diversity": diversity * (1 - by_set),
        "rater_agreement": _mean_of_pairs(dice),
    }
    return {name: float(value) for name, value in scores.items()}


def others_with_each(
    masks: Tensor, presence: Tensor, *, spacing: Sequence[float] | None = None, tolerance: float = 2.0
) -> dict[str, Tensor]:
    """Mean scores of the other raters with each one, (R,), NaN for one who is missing or alone."""
    pairs = presence & presence[:, None] & ~torch.eye(len(presence), dtype=torch.bool)
    dice, iou = _similarities(overlap_counts(masks[None])[0])
    values = {"dice": dice, "jaccard": iou}
    for name, table in pairwise_boundary_scores(masks[None], spacing=spacing, tolerance=tolerance).items():
        values[name] = table[0]
    return {name: value.masked_fill(~pairs, torch.nan).nanmean(0) for name, value in values.items()}


def _boundaries(present: Tensor, strict: bool, spacing: Sequence[float] | None, tolerance: float) -> dict[str, Tensor]:
    """Scores of each rater with the majority of the others and with each of them, means over raters."""
    others = [torch.cat([present[:r], present[r + 1 :]])[None] for r in range(len(present))]
    majorities = torch.stack([consensus_mask(masks, strict=strict)[0] for masks in others])
    with_majority = boundary_scores(present[None], majorities[None], spacing=spacing, tolerance=tolerance)
    pairs = pairwise_boundary_scores(present[None], spacing=spacing, tolerance=tolerance)
    return {f"{name}_consensus": values.mean() for name, values in with_majority.items()} | {
        f"{name}_each_rater": _mean_of_pairs(values[0]) for name, values in pairs.items()
    }


def _similarities(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Dice and IoU of all pairs, from their overlaps (K, K); 1 where both are empty."""
    total = pair_totals(counts[None])[0]
    return dice_of_counts(counts, total), iou_of_counts(counts, total)


def _diagonal(matrix: Tensor) -> Tensor:
    return torch.eye(len(matrix), dtype=torch.bool)


def _mean_of_pairs(matrix: Tensor) -> Tensor:
    return matrix[~_diagonal(matrix)].mean()


def _levels(present: Tensor, sizes: Tensor, strict: bool) -> dict[str, Tensor]:
    """Scores at levels of the vote. The map of one rater is the same mask at every level."""
    raters = len(present)
    votes = present.sum(0)
    everywhere = torch.bincount(votes, minlength=raters + 1)
    own = torch.stack([torch.bincount(votes[mask], minlength=raters + 1) for mask in present])
    # Where a rater marks a pixel of j + 1 votes, j of the others do.
    inside, outside = own[:, 1:], (everywhere - own)[:, :-1]  # (K, K) pixels by votes of the others, 0 ... K - 1
    steps, others = torch.arange(raters), torch.tensor(raters - 1)

    def overlap(tenths: int, strict: bool) -> tuple[Tensor, Tensor]:
        reached = votes_reach(steps, others, tenths=tenths, strict=strict)
        both = (inside * reached).sum(1).double()
        return both, sizes + both + (outside * reached).sum(1)

    def dice(tenths: int, strict: bool) -> Tensor:
        both, total = overlap(tenths, strict)
        return dice_of_counts(both, total).mean()

    both, total = overlap(5, strict)
    return {
        "qubiq_score": torch.stack([dice(i, strict) for i in QUBIQ_TENTHS]).mean(),
        "dice_soft": torch.stack([dice(i, True) for i in DICE_SOFT_TENTHS]).mean(),
        "dice_consensus": dice_of_counts(both, total).mean(),
        "jaccard_consensus": iou_of_counts(both, total).mean(),
    }


def _calibration(counts: Tensor, pixels: int, bins: int) -> dict[str, Tensor]:
    """A map of 0 and 1 fills the first and the last bin: with the other raters' marks and omissions, its errors."""
    sizes = counts.diagonal()
    omitted = sizes - counts  # (left out, other): marked by the other alone, p = 0
    added = sizes[:, None] - counts  # marked by the one left out alone, p = 1
    if bins == 1:
        gaps, filled = (added - omitted)[None], torch.full_like(sizes, pixels)[None]
    else:
        gaps, filled = torch.stack([omitted, added]), torch.stack([pixels - sizes, sizes])
    pairs = ~_diagonal(counts)
    off = pairs.double() / pairs.sum(1, keepdim=True)  # mean over the others
    scores = {}
    for suffix, gap in (("", gaps.abs()), ("_consensus", (gaps * off).sum(2, keepdim=True).abs())):
        weight = off if suffix == "" else torch.ones(1, 1, dtype=torch.float64)
        shares = gap / filled.clamp(min=1)[..., None]
        occupied = (filled > 0).sum(0)[:, None]
        for name, value in (
            ("ece", gap.sum(0) / pixels),
            ("ace", shares.sum(0) / occupied),
            ("mce", shares.amax(0)),
        ):
            scores[f"{name}{suffix}"] = (value * weight).sum(1).mean()
    scores["brier"] = ((omitted + added) * off).sum(1).mean() / pixels
    squares = torch.einsum("rs,st,rt->r", off, counts, off)  # sum over pixels of the others' share squared
    scores["brier_consensus"] = (sizes - 2 * (counts * off).sum(1) + squares).mean() / pixels
    return scores
