"""How many raters and cases a study needs for an interval of a given width, from the spread of a pilot data set."""

from __future__ import annotations

import math
from itertools import combinations

import msgspec
import numpy as np
from numpy.typing import NDArray

from monai_ext.storage.records import finite_or_none

__all__ = ["StudyRow", "StudySize", "study_size"]

Z = 1.96  # of a 95 % interval of the normal distribution
MOST_RATERS = 10  # of the table
MOST_SUBSETS = 200  # of raters, for each number of them


class StudyRow(msgspec.Struct, frozen=True, kw_only=True):
    """One number of raters.

    Attributes:
        raters: K.
        sd: of the mean pairwise Dice of a case over cases, and over which K raters of the data set there are.
        width: of the 95 % interval of the mean over the cases of the data set.
        cases: that an interval of the chosen width needs.
        area: half of the 95 % interval of a case's mean area, as a share of it.
        reliability: of the mean area of K raters (Spearman & Brown).
        measured: whether the data set has so many raters; else from the line var = a + b / K.
    """

    raters: int
    sd: float | None
    width: float | None
    cases: int | None
    area: float | None
    reliability: float | None
    measured: bool


class StudySize(msgspec.Struct, frozen=True, kw_only=True):
    """The table, and the fewest raters that suffice; None where no number does.

    `width` is that of the interval wanted of the mean Dice, `area_error` half of that of a case's mean area.
    """

    width: float
    area_error: float
    cases: int
    rows: list[StudyRow]
    raters_for_width: int | None
    raters_for_area: int | None


def study_size(
    dice: NDArray[np.float64],
    areas: NDArray[np.float64],
    *,
    reliability: float,
    width: float,
    area_error: float,
    design_effect: float = 1.0,
) -> StudySize | None:
    """Sizes of studies, from cases that all raters have marked; None of fewer than two such cases.

    Args:
        dice: (N, R, R), NaN on the diagonal.
        areas: (N, R).
        reliability: ICC of the areas of single raters.
        width, area_error: see `StudySize`.
        design_effect: variance of the mean with patients drawn over that with cases drawn.
    """
    cases, raters = areas.shape
    if cases < 2 or raters < 2:
        return None
    known = {k: _variance(dice, k) for k in range(2, raters + 1)}
    line = _line(known)
    spread = areas.std(axis=1, ddof=1) / np.where(areas.mean(1) > 0, areas.mean(1), np.nan)
    relative = float(np.sqrt(np.nanmean(spread**2))) if np.isfinite(spread).any() else math.nan
    reliability = max(reliability, 0.0)  # below 0 no mean of raters is reliable
    rows = []
    for k in range(2, max(MOST_RATERS, raters) + 1):
        variance = known.get(k, math.nan if line is None else max(line[0] + line[1] / k, 0.0)) * design_effect
        of_area = Z * relative / math.sqrt(k)
        rows.append(
            StudyRow(
                raters=k,
                sd=finite_or_none(math.sqrt(variance)),
                width=finite_or_none(2 * Z * math.sqrt(variance / cases)),
                cases=None if math.isnan(variance) else max(2, math.ceil(variance * (2 * Z / width) ** 2)),
                area=finite_or_none(of_area),
                reliability=finite_or_none(k * reliability / (1 + (k - 1) * reliability)),
                measured=k <= raters,
            )
        )
    enough = [row.raters for row in rows if row.width is not None and row.width <= width]
    for_area = None if math.isnan(relative) else max(1, math.ceil((Z * relative / area_error) ** 2))
    return StudySize(
        width=width,
        area_error=area_error,
        cases=cases,
        rows=rows,
        raters_for_width=min(enough, default=None),
        raters_for_area=for_area,
    )


def _variance(dice: NDArray[np.float64], k: int) -> float:
    """Of the mean Dice of a case by k raters, over cases and over the choice of the raters."""
    raters = dice.shape[1]
    subsets = list(combinations(range(raters), k))
    if len(subsets) > MOST_SUBSETS:
        chosen = np.random.default_rng(0).choice(len(subsets), MOST_SUBSETS, replace=False)
        subsets = [subsets[i] for i in sorted(chosen.tolist())]
    means = [np.nanmean(dice[:, list(subset)][:, :, list(subset)], axis=(1, 2)) for subset in subsets]
    return float(np.var(np.stack(means), axis=1, ddof=1).mean())


def _line(known: dict[int, float]) -> tuple[float, float] | None:
    """a and b of var = a + b / K by least squares; None of a single number of raters."""
    if len(known) < 2:
        return None
    columns = np.array([[1, 1 / k] for k in known])
    a, b = np.linalg.lstsq(columns, np.array(list(known.values())), rcond=None)[0].tolist()
    return a, b
