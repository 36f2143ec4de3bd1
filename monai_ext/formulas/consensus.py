"""One mask from those of several raters: votes, STAPLE and a logarithmic opinion pool.

`masks`, `presence`, K and c(x) as in `monai_ext.formulas.votes`; all methods work on images and volumes, case by case,
on the device of the masks. Every method gives a map in [0, 1]; the mask is where it is at least one half.

    majority            1 where half of the raters mark a pixel, c/K >= 1/2
    soft_vote           c/K
    union               1 where any rater marks it
    intersection        1 where all do
    staple              probability of the hidden true mask, by expectation maximisation (Warfield et al. 2004)
    log_opinion_pool    normalised geometric mean of the raters' probabilities (see `log_opinion_pool`)

A case without raters has an empty map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from monai.transforms.utils import distance_transform_edt
from torch import Tensor

from monai_ext.formulas.checks import check_choice
from monai_ext.formulas.votes import consensus_mask, present_raters, rater_votes

__all__ = [
    "CONSENSUS_METHODS",
    "LabelStaple",
    "Staple",
    "consensus_map",
    "log_opinion_pool",
    "rater_performance",
    "staple",
    "staple_labels",
]

CONSENSUS_METHODS = ("majority", "soft_vote", "union", "intersection", "staple", "log_opinion_pool")
TINY = 1e-300  # of what a logarithm is taken: never reached by a product of shares that is not 0
SUREST = 0.999  # no rater is taken to be surer of a pixel


class Staple(NamedTuple):
    """What `staple` finds."""

    probability: Tensor  # (B, *spatial) float32, of the true mask
    sensitivity: Tensor  # (B, R) float64: share of the true foreground that the rater marks; NaN of missing raters
    specificity: Tensor  # (B, R) float64: share of the true background that the rater leaves out
    iterations: int  # of the case that took most


class LabelStaple(NamedTuple):
    """What `staple_labels` finds."""

    labels: Tensor  # (B, *spatial) int64
    probability: Tensor  # (B, L, *spatial) float32
    confusion: Tensor  # (B, R, L, L) float64: how often the rater gives the column's label where the row's is true


def consensus_map(masks: Tensor, *, presence: Tensor | None = None, method: str = "majority") -> Tensor:
    """The map of a method, (B, *spatial) float32 in [0, 1]; see the module.

    >>> masks = torch.tensor([[[[1, 1, 0]], [[1, 0, 0]]]])
    >>> [consensus_map(masks, method=method).tolist()[0][0] for method in ("majority", "soft_vote", "intersection")]
    [[1.0, 1.0, 0.0], [1.0, 0.5, 0.0], [1.0, 0.0, 0.0]]

    Args:
        masks: (B, R, H, W) or (B, R, H, W, D), bool or integers, non-zero is foreground.
        presence: (B, R).
        method: one of `CONSENSUS_METHODS`.

    Raises:
        ValueError: no such method, or shapes or types do not fit.
    """
    check_choice("method", method, CONSENSUS_METHODS)
    if method == "majority":
        return consensus_mask(masks, presence=presence).float()
    if method == "staple":
        return staple(masks, presence=presence).probability
    if method == "log_opinion_pool":
        return log_opinion_pool(masks, presence=presence)
    votes, voters = rater_votes(masks, presence=presence)
    voters = voters[(..., *[None] * (votes.ndim - 1))]
    if method == "soft_vote":
        return votes / voters.clamp(min=1)
    return (votes > 0 if method == "union" else (votes == voters) & (voters > 0)).float()


def staple(
    masks: Tensor, *, presence: Tensor | None = None, max_iterations: int = 1000, tolerance: float = 1e-7
) -> Staple:
    """Simultaneous truth and performance level estimation (Warfield et al. 2004) of each case by itself.

    The hidden true mask and each rater's sensitivity and specificity are estimated in turns, from the share of votes
    on, with the mean share of foreground as the prior of every pixel, as SimpleITK's `STAPLE` does, and to the same
    numbers. All pixels with the same marks are one, so that an iteration costs as much as there are combinations.

    With two raters, or a small object in a large image, the estimate leans to the union: the background makes every
    rater look specific.

    Args:
        masks, presence: see `consensus_map`.
        max_iterations: at most.
        tolerance: change of all sensitivities and specificities below which a case is finished.

    A case whose raters mark nothing has an empty map and sensitivities of NaN.
    """
    present = present_raters(masks, presence)
    found, iterations = _expectation_maximisation(
        (masks != 0).flatten(2).long(), present, 2, max_iterations=max_iterations, tolerance=tolerance
    )
    probability = found.truth[:, :, 1].gather(1, found.place).float().reshape(len(masks), *masks.shape[2:])
    sensitivity, specificity = found.confusion[..., 1, 1], found.confusion[..., 0, 0]
    return Staple(probability, sensitivity, specificity, iterations)


def rater_performance(masks: Tensor, consensus: Tensor, *, presence: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Sensitivity and specificity of each rater with a map as the truth, each (B, R) float64.

    With p the map and m the mask of a rater: sum(p m) / sum(p), and sum((1 - p)(1 - m)) / sum(1 - p). With the map of
    `staple` these are its own estimates.

    >>> masks = torch.tensor([[[[1, 1, 0, 0]], [[1, 0, 0, 0]]]])
    >>> rater_performance(masks, torch.tensor([[[1.0, 1.0, 0.0, 0.0]]]))[0].tolist()  # of two pixels one is marked
    [[1.0, 0.5]]

    Args:
        masks, presence: see `consensus_map`.
        consensus: floating (B, *spatial), in [0, 1].

    NaN where the rater is missing, or the map is 0 (or 1) everywhere.
    """
    present = present_raters(masks, presence)
    wide = torch.float32 if masks.device.type == "mps" else torch.float64
    truth = consensus.flatten(1).to(wide)[:, None]
    marked = (masks != 0).flatten(2).to(wide)
    both, total = (truth * marked).sum(2), truth.sum(2)
    beside = marked.sum(2) - both
    outside = marked.shape[2] - total
    values = both / total, 1 - beside / outside
    sensitivity, specificity = (value.masked_fill(~present, torch.nan) for value in values)
    return sensitivity, specificity.masked_fill(outside == 0, torch.nan)


def staple_labels(
    labels: Tensor,
    *,
    classes: int,
    presence: Tensor | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-7,
) -> LabelStaple:
    """STAPLE of several exclusive labels (Warfield et al. 2004, section II.F; Rohlfing et al. 2004).

    As `staple`, with a confusion matrix for each rater, from the labels of the majority on, as SimpleITK's
    `MultiLabelSTAPLE`. For structures that overlap, use `staple` on each.

    Args:
        labels: (B, R, H, W) or (B, R, H, W, D), integers from 0 to `classes` - 1.
        classes: number of labels L, background among them.
        presence, max_iterations, tolerance: see `staple`.

    Raises:
        ValueError: `labels` are no integers of this range, or `classes` is below 2.
    """
    if classes < 2 or labels.is_floating_point() or labels.ndim not in (4, 5):
        raise ValueError(
            f"labels are {labels.dtype} {tuple(labels.shape)} of {classes} classes: give integers (B, R, H, W) or "
            "(B, R, H, W, D), and 2 classes at least."
        )
    present = labels.new_ones(labels.shape[:2], dtype=torch.bool) if presence is None else presence != 0
    flat = labels.flatten(2).long()
    if flat.numel() and (flat.amin() < 0 or flat.amax() >= classes):
        raise ValueError(f"labels reach from {flat.amin()} to {flat.amax()}: {classes} classes are 0 to {classes - 1}.")
    found, _ = _expectation_maximisation(
        flat, present.to(labels.device), classes, max_iterations=max_iterations, tolerance=tolerance, by_vote=True
    )
    place = found.place[..., None].expand(*found.place.shape, classes)
    maps = found.truth.gather(1, place).mT.float().reshape(len(labels), classes, *labels.shape[2:])
    return LabelStaple(maps.argmax(1), maps, found.confusion)


class _Estimate(NamedTuple):
    truth: Tensor  # (B, P, L), probability of each label for each of P combinations of marks
    place: Tensor  # (B, N), combination of each pixel
    confusion: Tensor  # (B, R, L, L), rows of the truth, columns of the rater


def _expectation_maximisation(
    labels: Tensor, present: Tensor, classes: int, *, max_iterations: int, tolerance: float, by_vote: bool = False
) -> tuple[_Estimate, int]:
    """`labels` (B, R, N) of 0 ... classes - 1; those of missing raters may be anything.

    The estimate begins at the shares of votes, or `by_vote` at the labels that most raters give.
    """
    batch, raters, pixels = labels.shape
    wide = torch.float32 if labels.device.type == "mps" else torch.float64
    marks, place = _combinations(labels * present[..., None], classes)  # (P, R), (B, N)
    offsets = len(marks) * torch.arange(batch, device=labels.device)[:, None]
    count = torch.bincount((place + offsets).flatten(), minlength=batch * len(marks)).view(batch, -1).to(wide)
    said = torch.nn.functional.one_hot(marks, classes).to(wide)  # (P, R, L)
    voters = present.sum(1).to(wide)
    truth = torch.einsum("prl,br->bpl", said, present.to(wide)) / voters.clamp(min=1)[:, None, None]
    prior = torch.einsum("bp,bpl->bl", count, truth) / max(pixels, 1)
    if by_vote:
        leading = truth == truth.amax(-1, keepdim=True)
        truth = (leading & (leading.sum(-1, keepdim=True) == 1)).to(wide)  # where labels are level, none counts
    log_prior = prior.clamp(min=TINY).log()[:, None]
    confusion = labels.new_full((batch, raters, classes, classes), torch.nan, dtype=wide)
    open_cases = voters > 0
    truth[~open_cases, :, 0] = 1  # nobody marked anything: background
    iterations = 0
    while iterations < max_iterations and bool(open_cases.any()):
        iterations += 1
        mass = count[..., None] * truth  # pixels of each combination by true label
        new = torch.einsum("bpt,prs->brts", mass, said) / mass.sum(1)[:, None, :, None]
        changed = (new - confusion).abs().nan_to_num(0).amax((1, 2, 3)) > tolerance
        first = iterations == 1
        confusion = torch.where(open_cases[:, None, None, None], new, confusion)
        logs = confusion.nan_to_num(1).clamp(min=TINY).log() * present[..., None, None]
        posterior = (log_prior + torch.einsum("prs,brts->bpt", said, logs)).softmax(-1)
        truth = torch.where(open_cases[:, None, None], posterior, truth)
        open_cases = open_cases & (changed | first)
    unknown = ~present[..., None, None] | (prior == 0)[:, None, :, None]
    confusion = confusion.masked_fill(unknown, torch.nan)
    return _Estimate(truth, place, confusion), iterations


def _combinations(labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """The combinations of marks that occur, (P, R), and which one each pixel has, (B, N)."""
    raters = labels.shape[1]
    if raters * math.log2(classes) < 62:
        powers = classes ** torch.arange(raters, device=labels.device)
        codes = torch.einsum("brn,r->bn", labels, powers)
        values, place = codes.unique(return_inverse=True)
        return values[:, None] // powers % classes, place
    marks, place = labels.transpose(1, 2).flatten(0, 1).unique(dim=0, return_inverse=True)
    return marks, place.view(len(labels), -1)


def log_opinion_pool(
    masks: Tensor,
    *,
    presence: Tensor | None = None,
    spacing: Sequence[float] | None = None,
    surest: float = SUREST,
) -> Tensor:
    """Logarithmic opinion pool of the raters, sigmoid of their mean log-odds: (B, *spatial) float32.

    A drawn mask has no probabilities. Its log-odds are the signed distance from its boundary, positive inside (Pohl et
    al. 2007), in units of `spacing`, cut where the rater would be surer than `surest`. The pool lies between the
    outlines instead of on one of them, and one outlier counts no more than one rater.

    The distances are computed on the CPU, or by cuCIM on a CUDA device if it is installed.

    Args:
        masks, presence: see `consensus_map`.
        spacing: size of a pixel along each axis; None: 1.
        surest: above 0.5 and below 1.

    Raises:
        ValueError: `surest` is not between, or shapes or types do not fit.
    """
    if not 0.5 < surest < 1:
        raise ValueError(f"surest={surest} must lie between 0.5 and 1.")
    present = present_raters(masks, presence)
    most = math.log(surest / (1 - surest))
    total = torch.zeros(len(masks), *masks.shape[2:], device=masks.device)
    for row, (case, here) in enumerate(zip(masks != 0, present.tolist(), strict=True)):
        for mask, counts in zip(case, here, strict=True):
            if counts:
                total[row] += _log_odds(mask, spacing, most)
    voters = present.sum(1).clamp(min=1)[(..., *[None] * (masks.ndim - 2))]
    nobody = ~present.any(1)[(..., *[None] * (masks.ndim - 2))]
    return (total / voters).sigmoid().masked_fill(nobody, 0)


def _log_odds(mask: Tensor, spacing: Sequence[float] | None, most: float) -> Tensor:
    if not mask.any() or mask.all():
        return torch.full(mask.shape, most if mask.all() else -most, device=mask.device)
    sampling = None if spacing is None else list(spacing)

    def distance(side: Tensor) -> Tensor:
        found: Any = distance_transform_edt(side[None].float(), sampling=sampling)
        return torch.as_tensor(found[0], device=mask.device)

    inside, outside = distance(mask), distance(~mask)
    half = 0.5  # the boundary lies between pixels
    return torch.where(mask, inside - half, half - outside).clamp(-most, most).float()
