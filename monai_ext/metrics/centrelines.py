"""Agreement of the centrelines of thin structures, such as vessels."""

from __future__ import annotations

import numpy as np
import torch
from skimage.morphology import skeletonize
from torch import Tensor

from monai_ext.formulas.checks import check_spatial

__all__ = ["centreline_dice"]


def centreline_dice(first: Tensor, second: Tensor) -> Tensor:
    """clDice of every mask of `first` with every one of `second`, (B, N, M) float64 (Shit et al. 2021, CVPR).

    The harmonic mean of two shares: of the skeleton of the one that lies in the other mask, and the reverse. It is
    symmetric, and counts a branch that is missed by its length, whatever its width. Two empty masks have 1, an empty
    mask and one that is not have 0.

    Args:
        first, second: (B, N, *spatial) and (B, M, *spatial) with two or three spatial axes, non-zero is foreground.

    Raises:
        ValueError: sizes do not fit.

    >>> line = torch.zeros(1, 1, 5, 9)
    >>> line[..., 2, :] = 1
    >>> half = line.clone()
    >>> half[..., 3:] = 0
    >>> round(centreline_dice(half, line).item(), 4)  # 2 / (1 / 1 + 9 / 3)
    0.5
    """
    check_spatial("first", first)
    if first.shape[:1] + first.shape[2:] != second.shape[:1] + second.shape[2:]:
        raise ValueError(f"first has the shape {tuple(first.shape)}, second {tuple(second.shape)}: sizes must agree.")
    one, other = (first != 0).flatten(2), (second != 0).flatten(2)
    inside = _share(_skeletons(first), other)
    reverse = _share(_skeletons(second), one).transpose(1, 2)
    total = inside + reverse
    dice = torch.where(total > 0, 2 * inside * reverse / total, 0.0)
    nothing = ~one.any(2)[:, :, None] & ~other.any(2)[:, None]
    return dice.masked_fill(nothing, 1.0)


def _share(skeletons: Tensor, masks: Tensor) -> Tensor:
    """Share of each skeleton (B, N, pixels) in each mask (B, M, pixels), 0 of one without pixels: (B, N, M)."""
    shared = torch.einsum("bnp,bmp->bnm", skeletons.double(), masks.double())
    return shared / skeletons.sum(2).clamp(min=1)[:, :, None]


def _skeletons(masks: Tensor) -> Tensor:
    """Skeleton of each mask, bool (B, N, pixels)."""
    planes = (masks != 0).flatten(0, 1).cpu().numpy()
    found = np.stack([skeletonize(plane) if plane.any() else plane for plane in planes]) if len(planes) else planes
    return torch.from_numpy(found.astype(bool)).reshape(*masks.shape[:2], -1).to(masks.device)
