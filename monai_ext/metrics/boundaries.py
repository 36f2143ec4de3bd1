"""Distances between the boundaries of masks: HD95, average symmetric surface distance, surface Dice at a tolerance.

The same numbers as MONAI's `compute_hausdorff_distance(percentile=95)`, `compute_average_surface_distance` with
`symmetric=True` and `compute_surface_dice` with `use_subvoxels=True`, whose table of lengths and areas is used; here
each boundary is found once for all its pairs. The unit is that of `spacing`, millimetres as a rule, and pixels without
one.

MONAI returns NaN or infinity where a mask is empty. Here every pair has a score: two empty masks agree (distance 0,
surface Dice 1), and where one of the two is empty the distance is the length of the diagonal of the image, which no
distance in it can exceed, and the surface Dice 0. Without that, a method that predicts nothing where the task is hard
would have the better mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from monai.metrics.utils import get_code_to_measure_table
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, find_objects
from scipy.spatial import KDTree
from torch import Tensor

from monai_ext.formulas.checks import check_not_negative, check_same_shape, check_spatial

__all__ = [
    "BOUNDARY_DISTANCES",
    "BOUNDARY_SCORES",
    "BOUNDARY_TOLERANCE",
    "boundary_scores",
    "boundary_sizes",
    "image_diagonal",
    "pairwise_boundary_scores",
]

BOUNDARY_DISTANCES = ("hd95", "assd")  # lower is better, in the unit of the spacing
BOUNDARY_SCORES = ("surface_dice", *BOUNDARY_DISTANCES)
BOUNDARY_TOLERANCE = 2.0


def boundary_scores(
    prediction: Tensor, target: Tensor, *, spacing: Sequence[float] | None = None, tolerance: float = BOUNDARY_TOLERANCE
) -> dict[str, Tensor]:
    """The scores of `BOUNDARY_SCORES` by name, each (B, C) float64.

        hd95          the larger one of both directed 95th percentiles of the distance to the other boundary
        assd          mean distance to the other boundary over all pixels of both boundaries
        surface_dice  share of both boundaries, by length or area, that lies within `tolerance` of the other
                      (Nikolov et al. 2021)

    A pixel of the boundary is one of the mask with a direct neighbour outside of it, or at the border of the image.
    Computed on the CPU whatever the device, mask by mask. See the module for empty masks.

    Args:
        prediction, target: masks (B, C, H, W) or (B, C, H, W, D) of one shape; non-zero is foreground.
        spacing: size of a pixel along each axis; None: 1.
        tolerance: in the unit of the spacing.

    Raises:
        ValueError: shapes do not fit, or spacing or tolerance are no positive numbers.

    >>> mask = torch.zeros(1, 1, 8, 8); mask[..., 2:5, 2:5] = 1
    >>> scores = boundary_scores(mask, mask.roll(2, -1), tolerance=1.0)  # two pixels to the right
    >>> scores["hd95"].item(), scores["assd"].item()
    (2.0, 1.0)
    """
    check_same_shape(prediction=prediction, target=target)
    check_spatial("prediction", prediction)
    check_not_negative("tolerance", tolerance)
    size = prediction.shape[2:]
    sides = _checked_spacing(spacing, len(size))
    farthest = image_diagonal(size, spacing)
    ours, theirs = _boundaries(prediction, sides), _boundaries(target, sides)
    rows = [_scores_of_pair(a, b, tolerance, farthest) for a, b in zip(ours, theirs, strict=True)]
    table = torch.tensor(rows, dtype=torch.float64, device=prediction.device).reshape(*prediction.shape[:2], 3)
    return dict(zip(BOUNDARY_SCORES, table.unbind(-1), strict=True))


def pairwise_boundary_scores(
    masks: Tensor, *, spacing: Sequence[float] | None = None, tolerance: float = BOUNDARY_TOLERANCE
) -> dict[str, Tensor]:
    """`boundary_scores` of every two masks of a case, (B, R, *spatial) -> each (B, R, R), symmetric."""
    check_spatial("masks", masks)
    check_not_negative("tolerance", tolerance)
    batch, raters, size = len(masks), masks.shape[1], masks.shape[2:]
    sides = _checked_spacing(spacing, len(size))
    farthest = image_diagonal(size, spacing)
    table = np.zeros((batch, raters, raters, len(BOUNDARY_SCORES)))
    table[..., 0] = 1  # of a mask with itself
    found = _boundaries(masks, sides)
    for case in range(batch):
        for i, j in combinations(range(raters), 2):
            pair = found[case * raters + i], found[case * raters + j]
            table[case, i, j] = table[case, j, i] = _scores_of_pair(*pair, tolerance, farthest)
    scores = torch.from_numpy(table).to(masks.device)
    return dict(zip(BOUNDARY_SCORES, scores.unbind(-1), strict=True))


def boundary_sizes(masks: Tensor, *, spacing: Sequence[float] | None = None) -> Tensor:
    """Length (area of volumes) of the boundary of each mask, (B, C, *spatial) -> (B, C) float64; 0 of empty ones.

    That of the pixels' corners cut, as in the surface Dice.
    """
    sides = _checked_spacing(spacing, masks.ndim - 2)
    sizes = [0.0 if found is None else float(found.sizes.sum()) for found in _boundaries(masks, sides)]
    return torch.tensor(sizes, dtype=torch.float64, device=masks.device).reshape(masks.shape[:2])


def image_diagonal(size: Sequence[int], spacing: Sequence[float] | None = None) -> float:
    """Length of the diagonal of an image, the distance of a mask from an empty one.

    >>> image_diagonal((3, 4), (1.0, 1.0))
    5.0
    """
    return math.hypot(*(side * step for side, step in zip(size, _checked_spacing(spacing, len(size)), strict=True)))


def _checked_spacing(spacing: Sequence[float] | None, axes: int) -> list[float]:
    sides = [1.0] * axes if spacing is None else [float(side) for side in spacing]
    if len(sides) != axes or not all(math.isfinite(side) and side > 0 for side in sides):
        raise ValueError(f"spacing={spacing} must be {axes} positive numbers, one for each axis of the masks.")
    return sides


class _Boundary(NamedTuple):
    """Where the boundary of a mask lies, in the unit of the spacing."""

    pixels: KDTree  # of the mask, with a direct neighbour outside of it
    points: KDTree  # between pixels, where the boundary passes
    sizes: NDArray[np.float64]  # length (area) of the boundary at each of these


def _boundaries(masks: Tensor, spacing: list[float]) -> list[_Boundary | None]:
    return [_boundary(mask, tuple(spacing)) for mask in (masks != 0).flatten(0, 1).cpu().numpy()]


def _boundary(mask: NDArray[np.bool_], spacing: tuple[float, ...]) -> _Boundary | None:
    """None of an empty mask."""
    if not mask.any():
        return None
    box = find_objects(mask.astype(np.uint8))[0]
    part = np.pad(mask[box], 1)  # the border of the image is a boundary too
    corner = np.array([side.start for side in box]) - 1
    measures, weights = _measures(spacing)
    codes = sum(
        weight * part[tuple(slice(step, step + side - 1) for step, side in zip(place, part.shape, strict=True))]
        for place, weight in np.ndenumerate(weights)
    )
    sizes = measures[codes]
    between = np.argwhere((codes != 0) & (codes != len(measures) - 1))
    return _Boundary(
        KDTree((np.argwhere(part & ~binary_erosion(part)) + corner) * spacing),
        KDTree((between + corner) * spacing),
        sizes[tuple(between.T)],
    )


@lru_cache(maxsize=64)
def _measures(spacing: tuple[float, ...]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """MONAI's length or area of the boundary among 4 or 8 neighbours by their code, and the weights of the code."""
    table, kernel = get_code_to_measure_table(spacing)
    return table.double().numpy(), kernel[0, 0].long().numpy()


def _scores_of_pair(
    a: _Boundary | None, b: _Boundary | None, tolerance: float, farthest: float
) -> tuple[float, float, float]:
    """Surface Dice, HD95 and ASSD of two masks."""
    if a is None or b is None:
        return (1.0, 0.0, 0.0) if a is b else (0.0, farthest, farthest)
    distances = [other.pixels.query(own.pixels.data)[0] for own, other in ((a, b), (b, a))]
    within = [own.sizes[other.points.query(own.points.data)[0] <= tolerance] for own, other in ((a, b), (b, a))]
    return (
        float(sum(part.sum() for part in within) / (a.sizes.sum() + b.sizes.sum())),
        float(max(np.quantile(part, 0.95) for part in distances)),
        float(np.concatenate(distances).mean()),
    )
