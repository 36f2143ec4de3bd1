"""Calibration error, Brier score, correlation of uncertainty with disagreement, and risk against coverage.

Shapes and presence as in `monai_ext.formulas.votes`. A calibration error needs a target, and there are two (`against`):
"raters" scores the probability against each rater present and takes the mean; "consensus" scores it once against
the share c/K of raters. The first is never smaller. All probabilities are of foreground, all pixels count.

MONAI's `CalibrationErrorMetric` bins again for each channel what is here binned once for all raters, has no presence,
and sums in float32; for one rater both agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from monai_ext.formulas.checks import check_choice
from monai_ext.formulas.overlaps import pixel_blocks
from monai_ext.formulas.votes import mean_over_raters, present_raters, rater_votes
from monai_ext.metrics.raters import probability_map

__all__ = [
    "CalibrationBins",
    "area_under_risk_coverage",
    "average_calibration_error",
    "brier_score",
    "calibration_bins",
    "calibration_scores",
    "expected_calibration_error",
    "maximum_calibration_error",
    "rater_entropy",
    "rater_variance",
    "risk_coverage_curve",
    "uncertainty_ncc",
]

AGAINST = ("raters", "consensus")


class CalibrationBins(NamedTuple):
    """Sums over the pixels of each bin, float64; C is R where the probability is per rater, else 1.

    A reliability diagram plots `foreground / pixels` over `probability / pixels`.
    """

    pixels: Tensor  # (B, C, bins)
    probability: Tensor  # (B, C, bins)
    foreground: Tensor  # (B, R, bins), of each rater, missing ones too
    present: Tensor  # (B, R) bool


def calibration_bins(
    probability: Tensor, masks: Tensor, *, presence: Tensor | None = None, bins: int = 15
) -> CalibrationBins:
    """Pixels sorted into `bins` equal intervals of probability, [i/bins, (i+1)/bins), the last one closed.

    Args:
        probability: floating, one map (B, H, W) or (B, 1, H, W) for all raters, or one per rater (B, R, H, W).
        masks, presence: see `monai_ext.formulas.votes`.
        bins: number of intervals; edges are rounded to the precision of `probability`.

    The probability sums of a case that holds NaN or values outside [0, 1] are NaN. Memory beyond the arguments stays
    below 50 MiB at any image size.

    Raises:
        ValueError: shapes or types do not fit, or `bins` < 1.
    """
    if bins < 1:
        raise ValueError(f"bins={bins} must be 1 at least.")
    present = present_raters(masks, presence)
    batch, raters = masks.shape[:2]
    if _is_per_rater(probability, masks):
        joint = calibration_bins(probability.flatten(0, 1), masks.flatten(0, 1)[:, None], bins=bins)
        pixels, sums_of_p, foreground = (sums.reshape(batch, raters, bins) for sums in joint[:3])
        return CalibrationBins(pixels, sums_of_p, foreground, present)
    p, valid = probability_map(probability, masks)
    y = masks.flatten(2)
    edges = (torch.arange(1, bins, dtype=torch.float64, device=p.device) / bins).to(p.dtype)
    sums = p.new_zeros(batch, bins, raters + 2, dtype=torch.float64)
    for block in pixel_blocks(p.shape[1], rows=batch * (bins + raters + 2)):
        part = p[:, block].contiguous()
        # float64 because sums are long, and because TF32 or autocast would round the probabilities
        member = torch.bucketize(part, edges, right=True)[:, None] == torch.arange(bins, device=p.device)[:, None]
        columns = [torch.ones_like(part)[:, None].double(), part[:, None].double(), (y[..., block] != 0).double()]
        sums += member.double() @ torch.cat(columns, dim=1).mT
    total = sums[..., 1].masked_fill(~valid[:, None], torch.nan)
    return CalibrationBins(sums[:, None, :, 0], total[:, None], sums[..., 2:].mT, present)


def _is_per_rater(probability: Tensor, masks: Tensor) -> bool:
    return masks.shape[1] > 1 and probability.shape == masks.shape


def _expected(gap: Tensor, pixels: Tensor) -> Tensor:
    return gap.sum(-1) / pixels.sum(-1)


def _average(gap: Tensor, pixels: Tensor) -> Tensor:
    return (gap / pixels.clamp(min=1)).sum(-1) / (pixels > 0).sum(-1)


def _maximum(gap: Tensor, pixels: Tensor) -> Tensor:
    return (gap / pixels.clamp(min=1)).amax(-1)


def _error(table: CalibrationBins, against: str, reduce: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    if against == "raters":
        return mean_over_raters(reduce((table.probability - table.foreground).abs(), table.pixels), table.present)
    share = torch.einsum("brn,br->bn", table.foreground, table.present.double()) / table.present.sum(1, keepdim=True)
    return reduce((table.probability[:, 0] - share).abs(), table.pixels[:, 0])


def _check_against(against: str, probability: Tensor, masks: Tensor) -> None:
    check_choice("against", against, AGAINST)
    if against == "consensus" and _is_per_rater(probability, masks):
        raise ValueError("against='consensus' needs one map, not one per rater: pass probability.mean(1).")


def expected_calibration_error(
    probability: Tensor, masks: Tensor, *, presence: Tensor | None = None, bins: int = 15, against: str = "raters"
) -> Tensor:
    """ECE: mean over pixels of |mean probability - share of foreground| of their bin (Guo et al. 2017, eq. 3): (B,).

    Args:
        probability, masks, presence, bins: see `calibration_bins`.
        against: "raters" or "consensus", see the module; "consensus" needs one map per case.

    NaN for a case without raters, or with probabilities that are NaN or outside [0, 1].

    Raises:
        ValueError: as `calibration_bins`, or `against` does not fit.

    >>> masks = torch.tensor([[[[1, 1, 0, 0]], [[1, 0, 0, 0]]]])
    >>> p = torch.full((1, 1, 4), 0.5)                # |0.5 - 0.5| and |0.5 - 0.25|
    >>> expected_calibration_error(p, masks), expected_calibration_error(p, masks, against="consensus")
    (tensor([0.1250], dtype=torch.float64), tensor([0.1250], dtype=torch.float64))
    """
    _check_against(against, probability, masks)
    return _error(calibration_bins(probability, masks, presence=presence, bins=bins), against, _expected)


def average_calibration_error(
    probability: Tensor, masks: Tensor, *, presence: Tensor | None = None, bins: int = 15, against: str = "raters"
) -> Tensor:
    """ACE: as `expected_calibration_error`, but each bin that holds a pixel counts the same: (B,)."""
    _check_against(against, probability, masks)
    return _error(calibration_bins(probability, masks, presence=presence, bins=bins), against, _average)


def maximum_calibration_error(
    probability: Tensor, masks: Tensor, *, presence: Tensor | None = None, bins: int = 15, against: str = "raters"
) -> Tensor:
    """MCE: as `expected_calibration_error`, but of the worst bin, however few pixels it holds: (B,)."""
    _check_against(against, probability, masks)
    return _error(calibration_bins(probability, masks, presence=presence, bins=bins), against, _maximum)


def brier_score(
    probability: Tensor, masks: Tensor, *, presence: Tensor | None = None, against: str = "raters"
) -> Tensor:
    """Brier score: mean over pixels of (p - y)^2, over the raters present, or of (p - c/K)^2: (B,).

    The two differ by the mean of c/K (1 - c/K), the raters' own disagreement, which no map can go below.
    Arguments, NaN and errors as for `expected_calibration_error`.
    """
    _check_against(against, probability, masks)
    present = present_raters(masks, presence)
    if against == "consensus":
        p, valid = probability_map(probability, masks)
        return (p.double() - _share(masks, presence)).square().mean(1).masked_fill(~valid, torch.nan)
    heads = probability.unbind(1) if _is_per_rater(probability, masks) else [probability] * masks.shape[1]
    scores = []
    for r, head in enumerate(heads):  # one rater at a time: B x pixels in memory, not B x R x pixels
        p, valid = probability_map(head, masks)
        errors = (p.double() - (masks[:, r] != 0).flatten(1).double()).square().mean(1)
        scores.append(errors.masked_fill(~valid, torch.nan))
    return mean_over_raters(torch.stack(scores, dim=1), present)


def calibration_scores(
    probability: Tensor, masks: Tensor, *, presence: Tensor | None = None, bins: int = 15
) -> dict[str, Tensor]:
    """ECE, ACE, MCE and Brier score of one map per case, each (B,), against both targets, from one binning.

    Names: "ece", "ace", "mce", "brier" against the raters, "ece_consensus" and so on against c/K.
    """
    _check_against("consensus", probability, masks)
    table = calibration_bins(probability, masks, presence=presence, bins=bins)
    reductions = {"ece": _expected, "ace": _average, "mce": _maximum}
    scores: dict[str, Tensor] = {}
    for against, suffix in zip(AGAINST, ("", "_consensus"), strict=True):
        scores |= {f"{name}{suffix}": _error(table, against, reduce) for name, reduce in reductions.items()}
        scores[f"brier{suffix}"] = brier_score(probability, masks, presence=presence, against=against)
    return scores


def _share(masks: Tensor, presence: Tensor | None) -> Tensor:
    votes, voters = rater_votes(masks, presence=presence)
    return votes.flatten(1).double() / voters[:, None]  # (B, pixels), NaN without raters


def rater_variance(masks: Tensor, *, presence: Tensor | None = None) -> Tensor:
    """Disagreement of the raters as variance c/K (1 - c/K), 0 to 1/4: (B, H, W), float64, NaN without any."""
    share = _share(masks, presence).unflatten(1, masks.shape[2:])
    return share * (1 - share)


def rater_entropy(masks: Tensor, *, presence: Tensor | None = None) -> Tensor:
    """Disagreement of the raters as entropy of c/K in nats, 0 to log 2: (B, H, W), float64, NaN without any."""
    share = _share(masks, presence).unflatten(1, masks.shape[2:])
    return torch.special.entr(share) + torch.special.entr(1 - share)


def uncertainty_ncc(
    uncertainty: Tensor,
    masks: Tensor,
    *,
    presence: Tensor | None = None,
    disagreement: Callable[..., Tensor] = rater_variance,
) -> Tensor:
    """Normalised cross-correlation (Pearson, over pixels) of predicted uncertainty with disagreement: (B,), -1 to 1.

    Args:
        uncertainty: floating (B, H, W) or (B, 1, H, W), of any scale.
        masks, presence: see `monai_ext.formulas.votes`.
        disagreement: `rater_variance` or `rater_entropy`; use the one that `uncertainty` is an estimate of.

    NaN where either map is constant (raters all agree, a single one, none) or `uncertainty` is not finite.

    Raises:
        ValueError: shapes or types do not fit.
    """
    predicted, _ = probability_map(uncertainty, masks)
    maps = [predicted.double(), disagreement(masks, presence=presence).flatten(1)]
    constant = torch.stack([values.amin(1) == values.amax(1) for values in maps]).any(0)
    first, second = (values - values.mean(1, keepdim=True) for values in maps)
    norms = first.square().sum(1).sqrt() * second.square().sum(1).sqrt()
    return ((first * second).sum(1) / norms).clamp(-1, 1).masked_fill(constant, torch.nan)


def risk_coverage_curve(confidence: Tensor, risk: Tensor) -> Tensor:
    """Mean risk of the k cases one is most confident of, for k = 1 ... N: (N,), float64.

    Cases of equal confidence are taken in the mean over their orders, so that the order of cases never matters.

    Args:
        confidence: (N,), higher is surer; any scale.
        risk: (N,), for example 1 - Dice.

    Raises:
        ValueError: the arguments are not two rows of one length >= 1.
    """
    if confidence.ndim != 1 or confidence.shape != risk.shape or len(risk) == 0:
        raise ValueError(f"confidence {tuple(confidence.shape)} and risk {tuple(risk.shape)} must be (N,) with N >= 1.")
    _, group, sizes = torch.unique(-confidence.double(), return_inverse=True, return_counts=True)
    sums = torch.zeros(len(sizes), dtype=torch.float64, device=risk.device).index_add_(0, group, risk.double())
    ordered = (sums / sizes).repeat_interleave(sizes)
    return ordered.cumsum(0) / torch.arange(1, len(risk) + 1, device=risk.device)


def area_under_risk_coverage(confidence: Tensor, risk: Tensor) -> Tensor:
    """AURC: mean of `risk_coverage_curve` (Geifman et al. 2019), a scalar; lower is better.

    NaN in either argument gives NaN.

    >>> area_under_risk_coverage(torch.tensor([0.9, 0.1, 0.5]), torch.tensor([0.0, 0.6, 0.3]))  # (0 + .15 + .3) / 3
    tensor(0.1500, dtype=torch.float64)
    """
    curve = risk_coverage_curve(confidence, risk)
    return curve.mean().masked_fill(confidence.isnan().any(), torch.nan)
