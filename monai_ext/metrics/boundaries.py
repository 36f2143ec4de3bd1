"""Distances between the boundaries of masks: HD95, average symmetric surface distance, surface Dice at a tolerance.

Boundaries and distances are MONAI's (`monai.metrics.utils`), and so are the scores: the same numbers as
`compute_hausdorff_distance(percentile=95)`, `compute_average_surface_distance(symmetric=True)` and
`compute_surface_dice(use_subvoxels=True)`, in a fifth of the time because each pair is cropped once. The unit is that
of `spacing`, millimetres as a rule, and pixels without one.

MONAI returns NaN or infinity where a mask is empty. Here every pair has a score: two empty masks agree (distance 0,
surface Dice 1), and where one of the two is empty the distance is the length of the diagonal of the image, which no
distance in it can exceed, and the surface Dice 0. Without that, a method that predicts nothing where the task is hard
would have the better mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.metrics.utils import get_mask_edges, get_surface_distance
from torch import Tensor
from torch.nn.functional import pad

from monai_ext.formulas.checks import check_not_negative, check_same_shape, check_spatial

__all__ = [
    "BOUNDARY_DISTANCES",
    "BOUNDARY_SCORES",
    "BOUNDARY_TOLERANCE",
    "boundary_scores",
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
    first, second = ((masks != 0).flatten(0, 1).cpu() for masks in (prediction, target))
    rows = [_scores_of_pair(a, b, sides, tolerance, farthest) for a, b in zip(first, second, strict=True)]
    table = torch.tensor(rows, dtype=torch.float64, device=prediction.device).reshape(*prediction.shape[:2], 3)
    return dict(zip(BOUNDARY_SCORES, table.unbind(-1), strict=True))


def pairwise_boundary_scores(
    masks: Tensor, *, spacing: Sequence[float] | None = None, tolerance: float = BOUNDARY_TOLERANCE
) -> dict[str, Tensor]:
    """`boundary_scores` of every two masks of a case, (B, R, *spatial) -> each (B, R, R), symmetric."""
    rows, columns = torch.triu_indices(masks.shape[1], masks.shape[1], 1, device=masks.device)
    pairs = boundary_scores(masks[:, rows], masks[:, columns], spacing=spacing, tolerance=tolerance)
    tables = {}
    for name, values in pairs.items():
        itself = 0.0 if name in BOUNDARY_DISTANCES else 1.0
        table = values.new_full((len(masks), masks.shape[1], masks.shape[1]), itself)
        table[:, rows, columns] = table[:, columns, rows] = values
        tables[name] = table
    return tables


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


def _scores_of_pair(
    a: Tensor, b: Tensor, spacing: list[float], tolerance: float, farthest: float
) -> tuple[float, float, float]:
    """Surface Dice, HD95 and ASSD of two masks, bool (*spatial)."""
    there = bool(a.any()), bool(b.any())
    if not all(there):
        return (0.0, farthest, farthest) if any(there) else (1.0, 0.0, 0.0)
    a, b = _cropped(a, b)
    edges = get_mask_edges(a, b, crop=False)
    distances = [
        torch.as_tensor(get_surface_distance(own, other, spacing=spacing)).double()
        for own, other in (edges, tuple(reversed(edges)))
    ]
    hd95 = max(distance.quantile(0.95).item() for distance in distances)
    assd = torch.cat(distances).mean().item()
    *edges, area_a, area_b = get_mask_edges(a, b, crop=False, spacing=spacing)  # between pixels, with their sizes
    within = total = 0.0
    for own, other, area in ((*edges, area_a), (*reversed(edges), area_b)):
        sizes = area[own].double()
        total += sizes.sum().item()
        within += sizes[get_surface_distance(own, other, spacing=spacing) <= tolerance].sum().item()
    return within / total, hd95, assd


def _cropped(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both masks, cut to the box of their union and a margin of one pixel, outside of the image too."""
    union = a | b
    place = []
    for axis in range(union.ndim):
        others = tuple(other for other in range(union.ndim) if other != axis)
        marked = union.any(dim=others).nonzero()
        place.append(slice(int(marked[0]), int(marked[-1]) + 1))
    margin = [1, 1] * union.ndim
    return pad(a[tuple(place)], margin), pad(b[tuple(place)], margin)
