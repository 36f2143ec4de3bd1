"""Scores against several raters of one image: QUBIQ score, Dice against each of them, rater ceiling.

For `masks`, `presence`, K and c(x) see `monai_ext.formulas.votes`. Two empty masks have Dice 1. A case for which a
score is not defined, or with probabilities that are NaN or outside [0, 1], is NaN, so that nothing waits for the
device; masks of several labels are an error on the CPU and NaN elsewhere, see `monai_ext.formulas.checks`. Several
structures, (B, R, K, H, W), are scored each by itself: functions by `per_structure`, metrics by structures=K.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from monai_ext.formulas.checks import check_masks, has_labels, not_probabilities
from monai_ext.formulas.overlaps import dice_of_counts
from monai_ext.formulas.structures import per_structure
from monai_ext.formulas.votes import consensus_mask, present_raters, rater_votes, votes_reach

__all__ = [
    "DICE_SOFT_TENTHS",
    "QUBIQ_TENTHS",
    "DicePerRater",
    "QubiqScore",
    "RaterScore",
    "consensus_mask",
    "dice_at_levels",
    "dice_per_rater",
    "dice_soft",
    "leave_one_out_dice",
    "qubiq_score",
    "rater_votes",
    "votes_reach",
]

QUBIQ_TENTHS = (1, 2, 3, 4, 5, 6, 7, 8, 9)
DICE_SOFT_TENTHS = (1, 3, 5, 7, 9)


def probability_map(probability: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """One map per case as (B, pixels), and whether all of it lies in [0, 1], (B,) bool.

    Raises:
        ValueError: `probability` is not floating, or neither (B, H, W) nor (B, 1, H, W) with the size of `masks`.
    """
    batch, spatial = masks.shape[0], masks.shape[2:]
    if probability.shape not in ((batch, *spatial), (batch, 1, *spatial)):
        raise ValueError(
            f"probability {tuple(probability.shape)} must be {(batch, *spatial)} or {(batch, 1, *spatial)}: "
            "take the mean over heads or samples first."
        )
    if not probability.is_floating_point():
        raise ValueError(f"probability is {probability.dtype}, not floating: pass values in [0, 1].")
    flat = probability.flatten(1)
    lowest, highest = flat.aminmax(dim=1)
    return flat, (lowest >= 0) & (highest <= 1)


def _checked_prediction(prediction: Tensor, masks: Tensor) -> Tensor:
    check_masks("prediction", prediction, like=masks)
    has_labels("predictions", prediction)
    return prediction


def dice_at_levels(
    prediction: Tensor,
    masks: Tensor,
    *,
    presence: Tensor | None = None,
    tenths: Sequence[int] = QUBIQ_TENTHS,
    strict: bool = False,
) -> Tensor:
    """Dice of {x: p(x) >= i/10} and {x: 10 c(x) >= i K} for each i of `tenths`: (B, levels), float64.

    Args:
        prediction: probabilities, floating (B, H, W) or (B, 1, H, W), compared with i/10 rounded to their own
            precision, float32 at most, so that a stored 0.7 reaches level 7, also one that went through float32; or
            samples, bool or integers (B, M, H, W), whose votes are counted in integers, as those of the raters.
        masks, presence: see `monai_ext.formulas.votes`.
        tenths: the levels i, integers from 1 to 9.
        strict: `>` in place of `>=`, on both sides.

    A case without raters, or with probabilities that are NaN or outside [0, 1], is NaN.

    Raises:
        ValueError: shapes or types do not fit, or a level is not an integer from 1 to 9.
    """
    if not tenths or any(i not in QUBIQ_TENTHS for i in tenths):
        raise ValueError(f"tenths={tuple(tenths)} must be integers from 1 to 9.")
    votes, voters = rater_votes(masks, presence=presence)
    votes, voters = votes.flatten(1), voters[:, None]
    if prediction.is_floating_point():
        shares, valid = probability_map(prediction, masks)
        shares = shares.float() if shares.dtype == torch.float64 else shares
        levels = torch.tensor([i / 10 for i in tenths], dtype=shares.dtype, device=shares.device)
        predicted = [shares > level if strict else shares >= level for level in levels]
    else:
        ours, count = rater_votes(_checked_prediction(prediction, masks))
        ours, valid = ours.flatten(1), torch.ones_like(count, dtype=torch.bool)
        predicted = [votes_reach(ours, count[:, None], tenths=i, strict=strict) for i in tenths]
    scores = []
    for i, ours_at_level in zip(tenths, predicted, strict=True):
        target = votes_reach(votes, voters, tenths=i, strict=strict)
        scores.append(dice_of_counts((ours_at_level & target).sum(1), ours_at_level.sum(1) + target.sum(1)))
    return torch.stack(scores, dim=1).masked_fill(~valid[:, None] | (voters == 0), torch.nan)


def qubiq_score(
    prediction: Tensor,
    masks: Tensor,
    *,
    presence: Tensor | None = None,
    tenths: Sequence[int] = QUBIQ_TENTHS,
    strict: bool = False,
) -> Tensor:
    """Score of the QUBIQ challenge (Li et al. 2024): mean of `dice_at_levels` over the levels 0.1, 0.2 ... 0.9, (B,).

    >>> masks = torch.tensor([[[[1, 1, 0, 0]], [[1, 0, 0, 0]]]])    # shares 1, 0.5, 0, 0
    >>> qubiq_score(torch.tensor([[[1.0, 0.0, 0.0, 0.0]]]), masks)  # five levels at Dice 2/3, four at 1
    tensor([0.8148], dtype=torch.float64)
    """
    return dice_at_levels(prediction, masks, presence=presence, tenths=tenths, strict=strict).mean(1)


def dice_soft(prediction: Tensor, masks: Tensor, *, presence: Tensor | None = None) -> Tensor:
    """Soft Dice over the levels 0.1 0.3 0.5 0.7 0.9, `>` on both sides (Ji et al. 2021): (B,), see `dice_at_levels`."""
    return dice_at_levels(prediction, masks, presence=presence, tenths=DICE_SOFT_TENTHS, strict=True).mean(1)


def dice_per_rater(prediction: Tensor, masks: Tensor, *, presence: Tensor | None = None) -> Tensor:
    """Hard Dice against each rater: (B, R), float64, NaN where the rater is missing.

    Args:
        prediction: bool or integers; one mask per rater (B, R, H, W), or one against all of them (B, 1, H, W).
        masks, presence: see `monai_ext.formulas.votes`.

    Raises:
        ValueError: shapes or types do not fit.
    """
    present = present_raters(masks, presence)
    predicted = _checked_prediction(prediction, masks)
    if predicted.shape[1] not in (1, masks.shape[1]):
        raise ValueError(
            f"prediction has {predicted.shape[1]} masks for {masks.shape[1]} raters: give {masks.shape[1]} or 1."
        )
    ours, target = (predicted != 0).flatten(2), (masks != 0).flatten(2)
    dice = dice_of_counts((ours & target).sum(-1), ours.sum(-1) + target.sum(-1))
    return dice.masked_fill(~present, torch.nan)


def leave_one_out_dice(masks: Tensor, *, presence: Tensor | None = None, strict: bool = False) -> Tensor:
    """Dice of each rater against the majority of the others: (B, R), float64.

    NaN where the rater is missing or alone. A pixel on which the others are split evenly belongs to their majority
    unless `strict`. The mean over raters is a rater ceiling for any method that predicts a consensus.
    """
    votes, voters = rater_votes(masks, presence=presence)
    present = present_raters(masks, presence)
    votes, others = votes.flatten(1), voters[:, None] - 1
    scores = []
    for r in range(masks.shape[1]):  # one rater at a time: B x pixels in memory, not B x R x pixels
        own = (masks[:, r] != 0).flatten(1)
        majority = votes_reach(votes - own.int(), others, tenths=5, strict=strict)
        scores.append(dice_of_counts((own & majority).sum(1), own.sum(1) + majority.sum(1)))
    return torch.stack(scores, dim=1).masked_fill(~present | (others < 1), torch.nan)


class RaterScore(CumulativeIterationMetric):
    """Mean over cases of a score against several raters, as a MONAI metric on the device until `aggregate`.

    Called as metric(y_pred, y, presence=None) with tensors (B, ...), or with lists of cases of any size. MONAI's Ignite
    handler passes two things only: there `y` may be {"masks": ..., "presence": ...}, or a list of such.

    Args:
        function: function(prediction, masks, presence=..., **options) -> (B,), (B, R) or a dictionary of these.
        threshold: floating predictions become masks by `prediction > threshold`, a case with NaN in them scores NaN;
            None leaves predictions as they are.
        reduction: for scores (B, R): "mean" over the raters of each case, then over cases; "mean_batch" over cases,
            one number per rater.
        structures: K for masks (B, R, K, *spatial) of several structures, see `per_structure`; predictions are
            (B, N, K, *spatial), or (B, K, *spatial) for one map. Then `aggregate` is the mean over the structures of
            each case, then over cases, and `means_per_structure` has one for each.
        options: passed on to `function`.

    Floating `y` is foreground above 0.5, as MONAI's pipelines turn labels into floats.

    Raises:
        ValueError: `reduction` is neither of the two.
    """

    def __init__(
        self,
        function: Callable,
        *,
        threshold: float | None = None,
        reduction: str = "mean",
        structures: int | None = None,
        **options: Any,
    ):
        if reduction not in ("mean", "mean_batch"):
            raise ValueError(f"reduction={reduction!r} must be 'mean' or 'mean_batch'.")
        super().__init__()
        self.structures = structures
        self.function = function
        self.threshold = threshold
        self.reduction = reduction
        self.options = options
        self._names: tuple[str, ...] | None = None

    def reset(self) -> None:
        super().reset()
        self._raters: int | None = None

    def __str__(self) -> str:
        return self.function.__name__ if type(self) is RaterScore else type(self).__name__

    def __call__(self, y_pred: Any, y: Any = None, presence: Any = None, **kwargs: Any) -> Any:
        if isinstance(y, Mapping):
            y, presence = y["masks"], y["presence"]
        elif isinstance(y, (list, tuple)) and y and isinstance(y[0], Mapping):
            y, presence = [case["masks"] for case in y], [case["presence"] for case in y]
        return super().__call__(y_pred, y, presence=presence)

    def _compute_list(self, y_pred: Any, y: Any = None, presence: Any = None, **kwargs: Any) -> Any:
        presence = [None] * len(y_pred) if presence is None else presence
        if y is None or not len(y_pred) == len(y) == len(presence):
            raise ValueError(f"{self}: {len(y_pred)} predictions need as many cases in y and in presence.")
        cases = [
            self._compute_tensor(p.detach()[None], t.detach()[None], presence=None if here is None else here[None])
            for p, t, here in zip(y_pred, y, presence, strict=True)
        ]
        if isinstance(cases[0], Tensor):
            return torch.cat(cases)
        return [torch.cat(values) for values in zip(*cases, strict=True)]

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, presence: Tensor | None = None, **kwargs: Any):
        if y is None:
            raise ValueError(f"{self} compares a prediction with raters: y is None.")
        prediction, masks = y_pred.as_subclass(Tensor), y.as_subclass(Tensor).to(y_pred.device)
        if self.structures is None:
            scores = self._scores(prediction, masks, presence=presence)
        else:
            scores = per_structure(self._scores, prediction, masks, structures=self.structures, presence=presence)
        if isinstance(scores, Tensor):
            return scores
        self._names = tuple(scores)
        return list(scores.values())

    def _scores(self, prediction: Tensor, masks: Tensor, *, presence: Tensor | None = None) -> Any:
        present = None if presence is None else presence.to(masks.device) != 0
        broken = has_labels("y", masks, present=present).any(1)
        masks = masks > 0.5 if masks.is_floating_point() else masks != 0
        if self.threshold is not None and prediction.is_floating_point():
            broken = broken | prediction.flatten(1).isnan().any(1)
            broken = broken | not_probabilities("y_pred", prediction, threshold=self.threshold).any(1)
            prediction = prediction > self.threshold
        scores = self.function(prediction, masks, presence=presence, **self.options)
        if isinstance(scores, Tensor):
            return self._checked(scores, broken)
        return {name: self._checked(values, broken) for name, values in scores.items()}

    def _checked(self, scores: Tensor, broken: Tensor) -> Tensor:
        if scores.ndim > 1:
            if self._raters not in (None, scores.shape[1]):
                raise ValueError(
                    f"{self}: a case of {scores.shape[1]} raters after cases of {self._raters}: give every case a "
                    "mask for each rater of the data set, and mark who is missing in presence."
                )
            self._raters = scores.shape[1]
        return scores.masked_fill(broken[(..., *[None] * (scores.ndim - 1))], torch.nan)

    def per_case(self) -> Tensor | dict[str, Tensor]:
        """Scores (N,) or (N, R) of the N cases seen since `reset`, over all ranks, by name if the function names them.

        With structures they are (N, K) or (N, K, R).

        Raises:
            ValueError: no case has been seen.
        """
        buffer = self.get_buffer()
        if buffer is None:
            raise ValueError(f"{self}: no case has been scored, the validation set is empty.")
        if self._names is None:
            return buffer
        return dict(zip(self._names, [buffer] if isinstance(buffer, Tensor) else buffer, strict=True))

    def aggregate(self) -> Tensor | dict[str, Tensor]:
        """Means over the cases that have a value, with a warning that counts the others; NaN if none has one."""
        return self._means(lambda values: values if self.structures is None else values.nanmean(1), axes=1)

    def means_per_structure(self) -> Tensor | dict[str, Tensor]:
        """What `aggregate` gives, of each structure: (K, ...).

        Raises:
            ValueError: the masks have no axis of structures.
        """
        if self.structures is None:
            raise ValueError(f"{self} scores one structure: build it with structures=K.")
        return self._means(lambda values: values, axes=2)

    def _means(self, of_cases: Callable[[Tensor], Tensor], *, axes: int) -> Tensor | dict[str, Tensor]:
        scores = self.per_case()
        if isinstance(scores, Tensor):
            return self._mean(str(self), of_cases(scores), axes)
        return {name: self._mean(name, of_cases(values), axes) for name, values in scores.items()}

    def _mean(self, name: str, values: Tensor, axes: int) -> Tensor:
        """Mean of values with so many axes before that of the raters."""
        undefined = int(values.flatten(1).isnan().all(1).sum()) if values.ndim > 1 else int(values.isnan().sum())
        if undefined:
            warnings.warn(
                f"{name}: {undefined} of {len(values)} cases have no value (raters missing, a constant map, or "
                "probabilities that are NaN or outside [0, 1]) and do not enter the mean.",
                stacklevel=4,
            )
        if values.ndim > axes and self.reduction == "mean":
            values = values.nanmean(axes)
        return values.nanmean(0)


class QubiqScore(RaterScore):
    """Mean of `qubiq_score` over cases; y_pred: probabilities (B, 1, H, W), or samples as bool or integers.

    With structures=K the probabilities are (B, K, H, W), see `RaterScore`.
    """

    def __init__(self, *, strict: bool = False, structures: int | None = None):
        super().__init__(qubiq_score, structures=structures, strict=strict)


class DicePerRater(RaterScore):
    """Mean of `dice_per_rater` over cases; y_pred: one map per rater (B, R, H, W), foreground above `threshold`.

    The raters must be the same, in the same order, in every case; reduction="mean_batch" gives one mean for each.
    """

    def __init__(self, *, threshold: float = 0.5, reduction: str = "mean", structures: int | None = None):
        super().__init__(dice_per_rater, threshold=threshold, reduction=reduction, structures=structures)
