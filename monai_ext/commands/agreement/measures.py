"""The numbers of one case with several raters: pairs, votes, and each rater against the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_ext.commands.agreement.reliability import vote_table
from monai_ext.data.raters.cases import RaterCase
from monai_ext.metrics import boundary_sizes, pairwise_boundary_scores, pairwise_dice

__all__ = ["HABITS", "PAIR_SCORES", "CaseMeasures", "measure_case"]

Numbers = NDArray[np.float64]
PAIR_SCORES = ("dice", "surface_dice", "hd95", "assd")
HABITS = ("size", "over", "under", "roughness")  # then the shift along each axis
MARGIN = 0.1  # of the sides of the box around all masks, on each side


@dataclass(frozen=True)
class CaseMeasures:
    """What is kept of a case; R raters, NaN where one of them is missing.

    Attributes:
        pairs: `PAIR_SCORES` by name, each (R, R), NaN on the diagonal.
        equal: (R, R) bool: masks that are not empty and equal pixel for pixel.
        areas: (R,), in the unit of the spacing, squared or cubed.
        habits: (R, 4 + axes): log of the area over the geometric mean of the others' areas; share of the mask outside
            of the others' majority; share of that majority left out; length of the boundary over that of a disc (ball)
            of equal area, relative to the others' mean, less 1; shift of the centre from the others' centres.
        votes: tables of the image and of the box around all masks, see `vote_table`.
        share: of the image that the mean mask fills.
    """

    pairs: dict[str, Numbers]
    equal: NDArray[np.bool_]
    areas: Numbers
    habits: Numbers
    votes: tuple[Numbers, Numbers]
    share: float


def measure_case(case: RaterCase, *, spacing: Sequence[float] | None, tolerance: float) -> CaseMeasures:
    """The numbers of a case.

    Args:
        spacing, tolerance: see `boundary_scores`.
    """
    masks = case.masks != 0
    here = case.presence
    raters, axes = len(masks), masks.ndim - 1
    sides = np.ones(axes) if spacing is None else np.asarray(spacing, dtype=np.float64)
    known = (here[:, None] & here & ~torch.eye(raters, dtype=torch.bool)).numpy()
    tables = {"dice": pairwise_dice(masks[None], masks[None])}
    tables |= pairwise_boundary_scores(masks[None], spacing=spacing, tolerance=tolerance)
    pairs = {name: np.where(known, tables[name][0].numpy(), np.nan) for name in PAIR_SCORES}
    pixels = masks.flatten(1).sum(1).double().numpy()
    areas = np.where(here.numpy(), pixels * sides.prod(), np.nan)
    equal = known & (pairs["dice"] == 1) & (pixels > 0)
    votes = masks[here].sum(0)
    voters = int(here.sum())
    box = votes[_box_around(votes > 0)]
    return CaseMeasures(
        pairs=pairs,
        equal=equal,
        areas=areas,
        habits=_habits(masks, here, areas, votes, sides),
        votes=tuple(vote_table(part.numpy(), voters, most=raters) for part in (votes, box)),  # type: ignore[arg-type]
        share=float(np.nanmean(areas) / sides.prod() / votes.numel()) if voters else np.nan,
    )


def _box_around(marked: Tensor) -> tuple[slice, ...]:
    """The box of what is marked, with a margin; the whole image where nothing is."""
    if not marked.any():
        return tuple(slice(None) for _ in range(marked.ndim))
    place = []
    for axis, side in enumerate(marked.shape):
        rows = marked.movedim(axis, 0).flatten(1).any(1).nonzero()
        first, last = int(rows[0]), int(rows[-1]) + 1
        margin = max(1, round(MARGIN * (last - first)))
        place.append(slice(max(0, first - margin), min(side, last + margin)))
    return tuple(place)


def _habits(masks: Tensor, here: Tensor, areas: Numbers, votes: Tensor, sides: Numbers) -> Numbers:
    axes = len(sides)
    habits = np.full((len(masks), len(HABITS) + axes), np.nan)
    marked = here & masks.flatten(1).any(1)
    if marked.sum() < 2:
        return habits
    with np.errstate(divide="ignore", invalid="ignore"):  # of empty masks, which have none of these
        logs = np.log(areas)
        roughness = boundary_sizes(masks[None], spacing=sides.tolist())[0].numpy() / _of_a_ball(areas, axes)
    centres = np.stack([mask.nonzero().double().mean(0).numpy() * sides for mask in masks])
    for r in here.nonzero()[:, 0].tolist():
        others = marked.clone()
        others[r] = False
        if not others.any():
            continue
        rest = others.numpy()
        majority = 2 * (votes - masks[r].int()) >= here.sum() - 1
        overlap, own, theirs = (int(part.sum()) for part in (majority & masks[r], masks[r], majority))
        if marked[r]:
            habits[r, 0] = logs[r] - logs[rest].mean()
            habits[r, 1] = 1 - overlap / own
            habits[r, 3] = roughness[r] / roughness[rest].mean() - 1
            habits[r, 4:] = centres[r] - centres[rest].mean(0)
        if theirs:
            habits[r, 2] = 1 - overlap / theirs
    return habits


def _of_a_ball(areas: Numbers, axes: int) -> Numbers:
    """Boundary of a disc or ball of equal area or volume."""
    return 2 * np.sqrt(np.pi * areas) if axes == 2 else (36 * np.pi * areas**2) ** (1 / 3)
