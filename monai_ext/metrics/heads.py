"""Health of a network with one head per rater: foreground that is never predicted, background that stays uncertain.

The scores are pooled: sums over all pixels of all cases in which the rater is present, then one quotient. A head
whose last activation clips stays at p = 0.5 on the background: its rounded masks look right and its hard Dice is high,
while its probability map is useless. Background probability and the gap of soft and hard Dice show that at once.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor

from monai_ext.formulas.overlaps import dice_of_counts
from monai_ext.formulas.votes import present_raters
from monai_ext.metrics.raters import RaterScore

__all__ = ["HEAD_HEALTH", "HeadHealth", "head_health", "head_sums", "head_warnings"]

HEAD_HEALTH = ("foreground_ratio", "background_probability", "soft_dice", "hard_dice", "dice_gap")


def head_sums(probability: Tensor, masks: Tensor, *, presence: Tensor | None = None) -> Tensor:
    """What `head_health` is made of, (B, R, 6) float64: sums over pixels of y, p, py, h, hy and 1, with h = [p > 0.5].

    All six are 0 where the rater is missing; sums of p are NaN where p is NaN or outside [0, 1].

    Args:
        probability: of foreground, floating (B, R, H, W), one head per rater.
        masks, presence: see `monai_ext.formulas.votes`.

    Raises:
        ValueError: shapes or types do not fit.
    """
    present = present_raters(masks, presence)
    if probability.shape != masks.shape or not probability.is_floating_point():
        raise ValueError(
            f"probability {tuple(probability.shape)} of {probability.dtype} must be floating with one head per "
            f"rater, as masks {tuple(masks.shape)}."
        )
    p, y = probability.flatten(2), (masks != 0).flatten(2)
    hard = p > 0.5  # a head stuck at exactly one half predicts background, as rounding would
    lowest, highest = p.aminmax(dim=-1)
    broken = ~((lowest >= 0) & (highest <= 1))
    of_p, of_py = (values.sum(-1, dtype=torch.float64).masked_fill(broken, torch.nan) for values in (p, p * y))
    pixels = torch.full(present.shape, p.shape[-1], device=p.device)
    sums = [y.sum(-1), of_p, of_py, hard.sum(-1), (hard & y).sum(-1), pixels]
    return torch.stack([value.double() for value in sums], dim=-1).masked_fill(~present[..., None], 0)


def _health(sums: Tensor) -> dict[str, Tensor]:
    y, p, py, h, hy, pixels = sums.unbind(-1)
    soft, hard = dice_of_counts(py, p + y), dice_of_counts(hy, h + y)
    soft = soft.masked_fill(pixels == 0, torch.nan)
    hard = hard.masked_fill(pixels == 0, torch.nan)
    return {
        "foreground_ratio": h / y,
        "background_probability": (p - py) / (pixels - y),
        "soft_dice": soft,
        "hard_dice": hard,
        "dice_gap": soft - hard,
    }


def head_health(probability: Tensor, masks: Tensor, *, presence: Tensor | None = None) -> dict[str, Tensor]:
    """The values of `HEAD_HEALTH`, each (R,), pooled over the batch; arguments as for `head_sums`.

    * foreground_ratio: pixels predicted (p > 0.5) over pixels marked by the rater; 1 is right, 0 a dead head; NaN
      or infinite where the rater marked nothing.
    * background_probability: mean p on the pixels that the rater left out; near 0 is right, 0.5 is stuck.
    * soft_dice: 2 sum(p y) / (sum p + sum y); hard_dice: the same with p > 0.5; 1 where both are empty.
    * dice_gap: soft - hard, near 0 or a little below for a healthy head, far below for a stuck background.

    All are NaN for a rater who is missing from every case; what depends on p is NaN where p is NaN or outside
    [0, 1] anywhere.
    """
    return _health(head_sums(probability, masks, presence=presence).sum(0))


def head_warnings(
    health: dict[str, Tensor],
    *,
    ratio: tuple[float, float] = (0.1, 10.0),
    background: float = 0.25,
    gap: float = -0.25,
) -> list[str]:
    """One sentence for each head that looks stuck, none for healthy ones; reads the values from the device.

    Args:
        health: from `head_health` or `HeadHealth.aggregate`.
        ratio: foreground ratios below the first or above the second are reported.
        background: background probabilities above it are reported.
        gap: Dice gaps below it are reported.
    """
    columns = [health[name].tolist() for name in HEAD_HEALTH]
    sentences = []
    for head, (found, p, soft, hard, difference) in enumerate(zip(*columns, strict=True)):
        if math.isnan(soft) and not math.isnan(hard):
            sentences.append(f"head {head} has probabilities that are NaN or outside [0, 1].")
        if found < ratio[0]:
            sentences.append(f"head {head} predicts {found:.2f} of its rater's foreground: it is nearly dead.")
        if found > ratio[1]:
            sentences.append(f"head {head} predicts {found:.1f} times its rater's foreground.")
        if p > background:
            sentences.append(f"head {head} has mean probability {p:.2f} on background: its background is stuck.")
        if difference < gap:
            sentences.append(f"head {head} has its soft Dice {-difference:.2f} below its hard Dice: do not use its p.")
    return sentences


class HeadHealth(RaterScore):
    """`head_health` pooled over all cases since `reset`, over all ranks, as a MONAI metric.

    y_pred: probabilities (B, R, H, W); the raters must be the same people in the same order in every case. With
    structures=K they are (B, R, K, H, W), and the values (K, R).
    """

    def __init__(self, *, structures: int | None = None):
        super().__init__(head_sums, structures=structures)

    def aggregate(self) -> dict[str, Tensor]:
        """The values of `HEAD_HEALTH`, each (R,)."""
        return _health(cast(Tensor, self.per_case()).sum(0))
