"""Votes of several raters on the pixels of one image.

`masks` are (B, R, H, W) or (B, R, H, W, D), bool or integers, non-zero is foreground; `presence` is (B, R), False where
a rater is missing from a case, None for all present. A missing rater has no vote and enters no mean, whatever its mask
holds. K is the number of raters present in a case, c(x) of those who marked pixel x.
"""

from __future__ import annotations

import torch
from torch import Tensor

from monai_ext.formulas.checks import check_masks, has_labels

__all__ = ["consensus_mask", "mean_over_raters", "present_raters", "rater_votes", "votes_reach"]


def present_raters(masks: Tensor, presence: Tensor | None) -> Tensor:
    """Who is present: bool (B, R) on the device of `masks`; checks both, see `check_masks` and `has_labels`."""
    check_masks("masks", masks)
    if presence is None:
        present = masks.new_ones(masks.shape[:2], dtype=torch.bool)
    elif presence.shape == masks.shape[:2]:
        present = presence.to(masks.device) != 0
    else:
        raise ValueError(
            f"presence {tuple(presence.shape)} must be (B, R) = {tuple(masks.shape[:2])}, as of the masks."
        )
    has_labels("masks", masks, present=present)
    return present


def mean_over_raters(values: Tensor, present: Tensor) -> Tensor:
    """Mean of `values` (B, R) over the raters present: (B,), NaN where there is none."""
    return values.masked_fill(~present, 0).sum(1) / present.sum(1)


def rater_votes(masks: Tensor, *, presence: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Votes for foreground c (B, H, W) and voters K (B,), both int32; see the module for the arguments.

    >>> votes, voters = rater_votes(torch.tensor([[[[1, 1, 0]], [[1, 0, 0]]]]))
    >>> votes.tolist(), voters.tolist()
    ([[[2, 1, 0]]], [2])
    """
    present = present_raters(masks, presence)
    foreground = masks != 0
    if presence is not None:
        foreground &= present[(..., *[None] * (masks.ndim - 2))]
    return foreground.sum(1, dtype=torch.int32), present.sum(1, dtype=torch.int32)


def votes_reach(votes: Tensor, voters: Tensor, *, tenths: int, strict: bool = False) -> Tensor:
    """Whether the share of votes is at least `tenths`/10 (more than it if `strict`), in integers: 10 c >= tenths K.

    Floating shares give wrong votes: at K = 10, 3/10 and 7/10 fall on either side of 0.3 and 0.7 by rounding alone.
    """
    return 10 * votes > tenths * voters if strict else 10 * votes >= tenths * voters


def consensus_mask(masks: Tensor, *, presence: Tensor | None = None, strict: bool = False) -> Tensor:
    """Majority vote (B, H, W), bool: half of the raters present suffice, more than half if `strict`.

    A case without raters has an empty consensus.
    """
    votes, voters = rater_votes(masks, presence=presence)
    voters = voters[(..., *[None] * (votes.ndim - 1))]
    return votes_reach(votes, voters, tenths=5, strict=strict) & (voters > 0)
