"""Grids of volumes: their voxels in another orientation and at another spacing, and predictions brought back.

A grid is a size (H, W, D) and an affine (4, 4), from voxels to millimetres. Volumes are (..., H, W, D).
"""

from __future__ import annotations

from collections.abc import Sequence

import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F
from monai.data.utils import compute_shape_offset, zoom_affine
from numpy.typing import ArrayLike
from torch import Tensor

__all__ = ["anatomical_grid", "resample", "resize_volumes", "resized_affine", "restored", "spacing_of"]

ALIGNED = 1e-3  # of a voxel's step, that may fall on another axis


def spacing_of(affine: np.ndarray) -> tuple[float, float, float]:
    """Millimetres between neighbours along each axis of a grid."""
    first, second, third = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return first, second, third


def anatomical_grid(
    size: Sequence[int], affine: np.ndarray, spacing: Sequence[float]
) -> tuple[tuple[int, int, int], np.ndarray]:
    """The grid of the same field of view with axes to the right, to the front and upwards, and this spacing.

    Size and affine are those of MONAI's `Orientation("RAS")` and `Spacing`.
    """
    orientation = nib.orientations.io_orientation(affine)
    turned = affine @ nib.orientations.inv_ornt_aff(orientation, tuple(size))
    order = np.argsort(orientation[:, 0])
    goal = zoom_affine(turned, np.asarray(spacing, dtype=np.float64), diagonal=False)
    shape, offset = compute_shape_offset([size[axis] for axis in order], turned, goal)
    goal[:3, 3] = offset
    first, second, third = (max(1, int(side)) for side in shape)
    return (first, second, third), goal


def resample(volumes: Tensor, affine: np.ndarray, goal: np.ndarray, size: Sequence[int]) -> Tensor:
    """Volumes (..., H, W, D) of the grid with `affine` at the voxels of another one, linearly; float32.

    Beyond the border its nearest voxel is taken. One axis is resampled after the other, without a field of positions.

    Args:
        goal: affine of the other grid, whose axes lie along those of the first in any order and direction.
        size: of the other grid.

    Raises:
        ValueError: the axes of the grids lie at an angle to each other.
    """
    move = np.linalg.inv(affine) @ goal  # from voxels of the goal to those of the source
    order = np.abs(move[:3, :3]).argmax(1).tolist()  # source axis -> axis of the goal
    steps = np.array([move[axis, order[axis]] for axis in range(3)])
    rest = move[:3, :3].copy()
    rest[range(3), order] = 0
    if sorted(order) != [0, 1, 2] or np.abs(rest).max() > ALIGNED * np.abs(steps).min():
        raise ValueError("the axes of the two grids lie at an angle to each other: save both on parallel axes.")
    result = volumes.float()
    for axis in range(3):
        places = torch.arange(size[order[axis]], dtype=torch.float64) * steps[axis] + move[axis, 3]
        result = _along(result, axis - 3, places)
    lead = volumes.ndim - 3
    return result.permute(*range(lead), *(lead + int(axis) for axis in np.argsort(order)))


def _along(values: Tensor, axis: int, places: Tensor) -> Tensor:
    """Linear interpolation along one axis at fractional indices."""
    last = values.shape[axis] - 1
    places = places.clamp(0, last)
    if torch.allclose(places, places.round(), rtol=0, atol=1e-6):
        whole = places.round().long()
        same = len(whole) == last + 1 and bool((whole == torch.arange(last + 1)).all())
        return values if same else values.index_select(axis, whole.to(values.device))
    low = places.floor().long()
    weight = (places - low).float().view(-1, *[1] * (-axis - 1))
    below, above = (values.index_select(axis, at.to(values.device)) for at in (low, (low + 1).clamp(max=last)))
    return below.lerp_(above, weight.to(values.device))


def resize_volumes(volumes: Tensor, size: Sequence[int]) -> Tensor:
    """Volumes (N, H, W, D) resized linearly, with an antialiasing filter along the axes that shrink; float32."""
    if tuple(volumes.shape[1:]) == tuple(size):
        return volumes.float()
    planes = volumes.float().movedim(3, 1)  # (N, D, H, W)
    planes = F.interpolate(planes, tuple(size[:2]), mode="bilinear", antialias=True)
    columns = planes.flatten(2).mT  # (N, H W, D)
    columns = F.interpolate(columns[:, None], (columns.shape[1], size[2]), mode="bilinear", antialias=True)[:, 0]
    return columns.unflatten(1, tuple(size[:2]))


def restored(
    maps: Tensor, size: Sequence[int], *, affine: ArrayLike | None = None, original: ArrayLike | None = None
) -> Tensor:
    """Maps (N, *spatial) predicted for an image, brought back to it: (N, *size), float32.

    Pictures are resized bilinearly, antialiased where they shrink; volumes go back by their affines.

    Args:
        size: of the image as stored.
        affine: of the volume that the network saw; None: it covers the field of view of the one stored.
        original: affine of the volume as stored, needed with `affine`.
    """
    if len(size) == 2:
        if tuple(maps.shape[1:]) == tuple(size):
            return maps.float()
        return F.interpolate(maps[None].float(), tuple(size), mode="bilinear", antialias=True)[0]
    if affine is None or original is None or np.allclose(affine, original):
        return resize_volumes(maps, size)
    return resample(maps, np.asarray(affine), np.asarray(original), size)


def resized_affine(affine: np.ndarray, old: Sequence[int], new: Sequence[int]) -> np.ndarray:
    """The affine of a grid of `old` size once it has the `new` one and covers the same field of view."""
    factors = np.asarray(old, dtype=np.float64) / np.asarray(new)
    move = np.diag([*factors, 1.0])
    move[:3, 3] = (factors - 1) / 2
    return affine @ move
