"""Every score of one case that its prediction allows, and beside them those of the raters, see `rater_ceiling`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_ext.commands.scoring.rater_ceiling import others_with_each, rater_ceiling
from monai_ext.data.raters.cases import RaterCase
from monai_ext.metrics import (
    boundary_scores,
    calibration_scores,
    confusion_counts,
    consensus_mask,
    dice_soft,
    pairwise_dice,
    qubiq_score,
    rater_votes,
    segmentation_scores,
    set_scores,
    uncertainty_ncc,
    votes_reach,
)

__all__ = ["HEAD_SCORES", "MAP_SCORES", "SET_SCORES", "CaseScores", "Score", "map_scores", "rater_case_scores"]


class Score(NamedTuple):
    """How a score is to be read. `worst` is the value that a missing prediction gets, if it is to count.

    That of a distance is the diagonal of the case, see `monai_ext.metrics.boundaries`.
    """

    label: str
    better: str  # "higher", "lower", or "" where neither is
    worst: float


MAP_SCORES = {
    "qubiq_score": Score("QUBIQ score", "higher", 0.0),
    "dice_soft": Score("Soft Dice, five levels", "higher", 0.0),
    "dice_consensus": Score("Dice with the majority", "higher", 0.0),
    "jaccard_consensus": Score("Jaccard with the majority", "higher", 0.0),
    "dice_each_rater": Score("Dice with each rater", "higher", 0.0),
    "jaccard_each_rater": Score("Jaccard with each rater", "higher", 0.0),
    "surface_dice_consensus": Score("Surface Dice with the majority", "higher", 0.0),
    "hd95_consensus": Score("HD95 to the majority", "lower", math.inf),
    "assd_consensus": Score("ASSD to the majority", "lower", math.inf),
    "surface_dice_each_rater": Score("Surface Dice with each rater", "higher", 0.0),
    "hd95_each_rater": Score("HD95 to each rater", "lower", math.inf),
    "assd_each_rater": Score("ASSD to each rater", "lower", math.inf),
    "ece": Score("ECE against raters", "lower", 1.0),
    "ece_consensus": Score("ECE against shares", "lower", 1.0),
    "ace": Score("ACE against raters", "lower", 1.0),
    "ace_consensus": Score("ACE against shares", "lower", 1.0),
    "mce": Score("MCE against raters", "lower", 1.0),
    "mce_consensus": Score("MCE against shares", "lower", 1.0),
    "brier": Score("Brier against raters", "lower", 1.0),
    "brier_consensus": Score("Brier against shares", "lower", 1.0),
    "uncertainty_ncc": Score("Correlation with disagreement", "higher", -1.0),
    "confidence": Score("Soft Dice confidence", "", 1.0),
}
SET_SCORES = {
    "generalized_energy_distance": Score("Energy distance squared", "lower", 2.0),
    "hungarian_iou": Score("Hungarian IoU", "higher", 0.0),
    "dice_match": Score("Dice, one sample matched each", "higher", 0.0),
    "dice_max": Score("Dice of the best sample", "higher", 0.0),
    "sample_diversity": Score("Diversity within the set", "", math.nan),
}
HEAD_SCORES = {
    "dice_heads": Score("Dice of head and rater", "higher", 0.0),
    "jaccard_heads": Score("Jaccard of head and rater", "higher", 0.0),
    "surface_dice_heads": Score("Surface Dice of head and rater", "higher", 0.0),
    "hd95_heads": Score("HD95 of head and rater", "lower", math.inf),
    "assd_heads": Score("ASSD of head and rater", "lower", math.inf),
}


class CaseScores(NamedTuple):
    """Scores of one case by name, NaN or absent where not defined.

    `ceiling`: those of the raters against each other. `heads`: Dice of head and rater, (A, R).
    """

    scores: dict[str, float]
    ceiling: dict[str, float]
    heads: NDArray[np.float64] | None


def map_scores(
    prediction: Tensor,
    masks: Tensor,
    *,
    presence: Tensor | None = None,
    strict: bool = False,
    bins: int = 15,
    spacing: Sequence[float] | None = None,
    tolerance: float = 2.0,
) -> dict[str, Tensor]:
    """The scores of `MAP_SCORES` by name, each (B,) float64.

    The map's own mask is {p >= 1/2}, the majority {2 c >= K} (`>` in both if `strict`). "uncertainty_ncc" compares
    p (1 - p) with the raters' variance. "confidence" is the Dice of the map with its own mask, 2 sum(p m) / (sum p
    + sum m), and 1 for an empty map: what Borges et al. 2024 (arXiv:2402.10665) rank cases by. It is the only score of
    a case without raters, the others are NaN.

    Args:
        prediction: probabilities, floating (B, *spatial), or masks whose mean is the map, bool or integers
            (B, M, *spatial); these vote in integers.
        masks, presence: raters (B, R, *spatial) and who is present (B, R), see `monai_ext.metrics.raters`.
        strict: see `qubiq_score`.
        bins: see `calibration_bins`.
        spacing, tolerance: see `boundary_scores`.
    """
    if prediction.is_floating_point():
        probability = prediction
        hard = prediction > 0.5 if strict else prediction >= 0.5
    else:
        votes, voters = rater_votes(prediction)
        voters = voters[(..., *[None] * (votes.ndim - 1))]
        probability, hard = votes / voters, votes_reach(votes, voters, tenths=5, strict=strict)
    present = masks.new_ones(masks.shape[:2], dtype=torch.bool) if presence is None else presence
    majority = consensus_mask(masks, presence=presence, strict=strict)[:, None]
    with_majority = segmentation_scores(confusion_counts(hard[:, None], majority))
    nobody = ~present.any(1)
    with_each = segmentation_scores(confusion_counts(hard[:, None].expand_as(masks), masks))
    boundaries = _boundaries(hard, torch.cat([majority, masks != 0], dim=1), spacing, tolerance)
    flat, mask = probability.flatten(1).double(), hard.flatten(1)
    total = flat.sum(1) + mask.sum(1)
    scores = {
        "qubiq_score": qubiq_score(prediction, masks, presence=presence, strict=strict),
        "dice_soft": dice_soft(prediction, masks, presence=presence),
        "dice_consensus": with_majority["dice"][:, 0].masked_fill(nobody, torch.nan),
        "jaccard_consensus": with_majority["jaccard"][:, 0].masked_fill(nobody, torch.nan),
        "dice_each_rater": with_each["dice"].masked_fill(~present, torch.nan).nanmean(1),
        "jaccard_each_rater": with_each["jaccard"].masked_fill(~present, torch.nan).nanmean(1),
        **{f"{name}_consensus": values[:, 0].masked_fill(nobody, torch.nan) for name, values in boundaries.items()},
        **{
            f"{name}_each_rater": values[:, 1:].masked_fill(~present, torch.nan).nanmean(1)
            for name, values in boundaries.items()
        },
        "uncertainty_ncc": uncertainty_ncc(probability * (1 - probability), masks, presence=presence),
        "confidence": torch.where(total > 0, 2 * (flat * mask).sum(1) / total, 1.0),
        **calibration_scores(probability, masks, presence=presence, bins=bins),
    }
    return {name: scores[name] for name in MAP_SCORES}


def _boundaries(mask: Tensor, others: Tensor, spacing: Sequence[float] | None, tolerance: float) -> dict[str, Tensor]:
    """`boundary_scores` of one mask of each case (B, *spatial) with several, each (B, N)."""
    return boundary_scores(mask[:, None].expand_as(others), others, spacing=spacing, tolerance=tolerance)


def rater_case_scores(
    case: RaterCase,
    *,
    raters: Sequence[int],
    heads: Sequence[int] = (),
    set_size: int = 0,
    strict: bool = False,
    estimator: str = "V",
    bins: int = 15,
    spacing: Sequence[float] | None = None,
    tolerance: float = 2.0,
) -> CaseScores:
    """All scores of one case.

    The map is the probability if there is one, else the mean of the samples, else of the heads; the set is the samples,
    else the heads. A case without prediction has the ceiling alone.

    Args:
        raters: numbers of the raters of `case.masks`, in order.
        heads: numbers of those predicted in `case.heads`; empty where raters are anonymous, and no head has an
            rater of its own. One per head gives "dice_rater03" and so on besides the scores of `HEAD_SCORES`.
        set_size: masks in the set, for the ceiling; 0 where there is none.
        strict, bins, spacing, tolerance: see `map_scores`.
        estimator: see `generalized_energy_distance`.
    """
    sides: dict[str, Any] = {"spacing": spacing, "tolerance": tolerance}
    masks, presence = case.masks[None], case.presence[None]
    samples = case.heads if case.samples is None else case.samples
    prediction = samples if case.probability is None else case.probability
    scores: dict[str, Tensor] = {}
    if prediction is not None:
        scores |= map_scores(prediction[None], masks, presence=presence, strict=strict, bins=bins, **sides)
    if samples is not None:
        scores |= set_scores(samples[None], masks, presence=presence, estimator=estimator)
    numbers = {name: float(scores[name]) for name in (*MAP_SCORES, *SET_SCORES) if name in scores}
    ceiling = rater_ceiling(
        case.masks, case.presence, set_size=set_size, strict=strict, estimator=estimator, bins=bins, **sides
    )
    table = None
    if heads:
        columns = [index for index, number in enumerate(raters) if number in heads]
        ceiling |= _each(others_with_each(case.masks, case.presence, **sides), raters, columns)
        if case.heads is not None:
            table = pairwise_dice(case.heads[None], masks)[0].masked_fill(~case.presence, torch.nan).numpy()
            numbers |= _each(_own_heads(case, raters, heads, **sides), raters, columns)
    return CaseScores(numbers, ceiling, table)


def _own_heads(case: RaterCase, raters: Sequence[int], heads: Sequence[int], **sides: Any) -> dict[str, Tensor]:
    """Scores of each rater with the own head, (R,), NaN where either is missing; names as in `HEAD_SCORES`."""
    names = [name.removesuffix("_heads") for name in HEAD_SCORES]
    values = {name: torch.full((len(raters),), torch.nan, dtype=torch.float64) for name in names}
    if case.heads is None:
        return values
    for row, number in enumerate(heads):
        if number in raters and case.presence[column := raters.index(number)]:
            own, rater = case.heads[None, [row]], case.masks[None, [column]]
            found = segmentation_scores(confusion_counts(own, rater)) | boundary_scores(own, rater, **sides)
            for name, scores in values.items():
                scores[column] = found[name][0, 0]
    return values


def _each(values: Mapping[str, Tensor], raters: Sequence[int], columns: Sequence[int]) -> dict[str, float]:
    """Values (R,) of some raters as "dice_rater03", ..., and their mean over those who have one."""
    named = {}
    for name, column in values.items():
        chosen = column[list(columns)]
        named[f"{name}_heads"] = float(chosen.nanmean())
        named |= {f"{name}_rater{raters[index]:02d}": float(column[index]) for index in columns}
    return named
