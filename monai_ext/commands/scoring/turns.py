"""Predictions that fit their cases better once they are turned: axes swapped or reversed on the way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from monai_ext.data.raters.cases import RaterCase
from monai_ext.metrics import consensus_mask

__all__ = ["TURNS", "better_turn", "turned_dice"]

TURNS = (
    "as given", "with rows reversed", "with columns reversed", "turned by 180 degrees", "with rows and columns swapped",
    "turned by 90 degrees anticlockwise", "turned by 90 degrees clockwise",
    "with rows and columns swapped and both reversed",
)  # fmt: skip
BETTER_BY = 0.15  # mean Dice
FEWEST_CASES = 3
MOST_OF_THE_CASES = 0.8


def turned_dice(case: RaterCase) -> np.ndarray:
    """Dice of the prediction with the majority of the raters, in each of `TURNS` of the first two axes, (8,).

    NaN where that changes the shape, and where the prediction or the majority is empty.
    """
    dice = np.full(len(TURNS), np.nan)
    samples = case.heads if case.samples is None else case.samples
    share = case.probability if case.probability is not None or samples is None else samples.float().mean(0)
    if share is None:
        return dice
    predicted = share >= 0.5
    majority = consensus_mask(case.masks[None], presence=case.presence[None])[0].bool()
    sizes = int(predicted.sum()), int(majority.sum())
    if not all(sizes):
        return dice
    rows_and_columns = (
        predicted, predicted.flip(0), predicted.flip(1), predicted.flip(0, 1), predicted.transpose(0, 1),
        torch.rot90(predicted, 1, (0, 1)), torch.rot90(predicted, -1, (0, 1)), predicted.transpose(0, 1).flip(0, 1),
    )  # fmt: skip
    for place, turned in enumerate(rows_and_columns):
        if turned.shape == majority.shape:
            dice[place] = 2 * int((turned & majority).sum()) / sum(sizes)
    return dice


def better_turn(dice: Sequence[np.ndarray]) -> str | None:
    """A sentence, where one turn fits far better than the predictions as given; None where none does.

    Args:
        dice: of each case, see `turned_dice`.
    """
    table = np.array([row for row in dice if not np.isnan(row[0])])
    if len(table) < FEWEST_CASES:
        return None
    known = np.nan_to_num(table, nan=-1)
    best = int(known[:, 1:].mean(0).argmax()) + 1
    given, turned = known[:, 0], known[:, best]
    if turned.mean() - given.mean() < BETTER_BY or (turned > given).mean() < MOST_OF_THE_CASES:
        return None
    return (
        f"The predictions fit far better {TURNS[best]} (mean Dice {turned.mean():.3f} with the majority) than "
        f"as given ({given.mean():.3f}), in {np.count_nonzero(turned > given)} of {len(table)} cases: their axes seem "
        "mixed up."
    )
