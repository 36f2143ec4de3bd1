"""Masks that are likely wrong: of another object, empty, mirrored, or far from raters who agree among themselves."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from monai_ext.commands.agreement.measures import CaseMeasures
from monai_ext.commands.scoring.turns import TURNS, turned_dice
from monai_ext.data.raters.cases import RaterCase

__all__ = ["SuspectMask", "suspect_masks"]

# Chosen by hand: in 86 cases of five raters of cells, where two masks are of another cell, these rules find both.
APART = 0.5  # Dice with the nearest other rater below which a mask is looked at
CLOSER = 0.3  # by which the others agree better among themselves
TURNED, TURN_GAINS = 0.7, 0.2  # Dice with the majority of the others that a turned mask must have, and have gained
FULL = 0.99  # of the image


class SuspectMask(msgspec.Struct, frozen=True, kw_only=True):
    """A mask and the reason to look at it; `dice` is the largest with another rater."""

    case: str
    rater: int
    reason: str
    dice: float | None


def suspect_masks(case: RaterCase, measures: CaseMeasures, *, name: str, raters: Sequence[int]) -> list[SuspectMask]:
    """The suspects of one case; `raters` are the numbers of its columns."""
    here = case.presence.numpy()
    marked = here & (case.masks != 0).flatten(1).any(1).numpy()
    if here.sum() < 2 or not marked.any():
        return []
    dice = measures.pairs["dice"]
    found = []
    for r in np.flatnonzero(here).tolist():
        reason = _reason(case, dice, here, marked, r)
        if reason:
            best = dice[r][marked].max(initial=-1, where=~np.isnan(dice[r][marked]))
            found.append(SuspectMask(case=name, rater=raters[r], reason=reason, dice=None if best < 0 else float(best)))
    return found


def _reason(case: RaterCase, dice: np.ndarray, here: np.ndarray, marked: np.ndarray, r: int) -> str:
    others = marked.copy()
    others[r] = False
    if not marked[r]:
        return "empty, and most others mark something" if 2 * others.sum() > here.sum() - 1 else ""
    if bool(case.masks[r].float().mean() >= FULL) and others.any() and dice[r][others].max() < FULL:
        return "the whole image"
    if not others.any():
        return "alone: all others mark nothing" if here.sum() > 2 else ""
    nearest = dice[r][others].max()
    turn = _turned(case, others, r) if nearest < 1 - TURN_GAINS else ""
    if turn:
        return turn
    if nearest == 0:
        return "another object: overlaps with nobody's mask"
    among = dice[np.ix_(others, others)]
    agreed = np.nanmean(among) if others.sum() > 1 else np.nan
    if nearest < APART and agreed > nearest + CLOSER:
        return f"apart from the others, who agree by a Dice of {agreed:.2f}"
    return ""


def _turned(case: RaterCase, others: np.ndarray, r: int) -> str:
    """How the mask fits the majority of the others far better."""
    rest = RaterCase(
        masks=case.masks[others],
        presence=case.presence[others],
        probability=case.masks[r].float(),
        heads=None,
        samples=None,
        elsewhere=None,
    )
    fits = turned_dice(rest)
    best = int(np.nanargmax(fits)) if not np.isnan(fits).all() else 0
    if best == 0 or fits[0] >= APART or fits[best] < TURNED or fits[best] - fits[0] < TURN_GAINS:
        return ""
    return f"fits {TURNS[best]}: Dice {fits[best]:.2f} with the others, {fits[0]:.2f} as drawn"
