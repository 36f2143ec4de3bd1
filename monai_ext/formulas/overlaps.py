"""Overlap of binary masks: counts, Dice 2 |A and B| / (|A| + |B|) and IoU |A and B| / |A or B|.

Two empty masks overlap entirely: both scores are 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = [
    "dice_of_counts",
    "iou_of_counts",
    "overlap_counts",
    "pair_totals",
    "pixel_blocks",
    "soft_jaccard_distances",
]

BLOCK_ELEMENTS = 2**21  # elements of one float block of a product over pixels: 8 MiB in float32


def dice_of_counts(both: Tensor, total: Tensor) -> Tensor:
    """Dice from |A and B| and |A| + |B|, float64; NaN in a count gives NaN."""
    return torch.where(total == 0, 1.0, 2 * both.double() / total)


def iou_of_counts(both: Tensor, total: Tensor) -> Tensor:
    """IoU from |A and B| and |A| + |B|, float64."""
    return torch.where(total == 0, 1.0, both.double() / (total - both))


def pixel_blocks(pixels: int, *, rows: int) -> Iterator[slice]:
    """Slices of a row of pixels, of which `rows` such rows are a block of `BLOCK_ELEMENTS` elements at most."""
    step = max(1, BLOCK_ELEMENTS // rows)
    for start in range(0, pixels, step):
        yield slice(start, start + step)


def overlap_counts(*sets: Tensor) -> Tensor:
    """Pixels shared by every two masks of all sets: (B, N, N), float64, N masks in the order given; exact.

    The diagonal holds the sizes of the masks. Sets (B, n, H, W), bool or integers, N the sum of their n.
    """
    rows = [masks.flatten(2) for masks in sets]
    batch, pixels = rows[0].shape[0], rows[0].shape[2]
    masks_per_case = sum(row.shape[1] for row in rows)
    counts = torch.zeros(batch, masks_per_case, masks_per_case, dtype=torch.float64, device=rows[0].device)
    # Zeros and ones are exact in any format and a block is far below 2^24 pixels, so float32 sums of products are
    # exact, with TF32 as well; autocast would round the sums themselves.
    with torch.autocast(rows[0].device.type, enabled=False):
        for block in pixel_blocks(pixels, rows=batch * masks_per_case):
            part = torch.cat([row[..., block] != 0 for row in rows], dim=1).float()
            counts += torch.bmm(part, part.mT)
    return counts


def pair_totals(counts: Tensor) -> Tensor:
    """|A| + |B| of every two masks, from `overlap_counts`."""
    sizes = counts.diagonal(dim1=1, dim2=2)
    return sizes[:, :, None] + sizes[:, None, :]


def soft_jaccard_distances(first: Tensor, second: Tensor) -> Tensor:
    """1 - sum min(a, b) / sum max(a, b) of every two maps in [0, 1]: (B, n, pixels), (B, m, pixels) -> (B, n, m).

    The Jaccard distance of masks, and a metric between maps (Wang et al. 2023, arXiv:2302.05666); differentiable but
    where values are equal, where the gradient is 0. With the L1 distance l and the sum s of all values, 2 l / (s + l).

    >>> soft_jaccard_distances(torch.tensor([[[1.0, 1.0, 0.0]]]), torch.tensor([[[0.0, 0.5, 0.0], [1.0, 1.0, 0.0]]]))
    tensor([[[0.7500, 0.0000]]])
    """
    difference = torch.cdist(first, second, p=1)
    total = first.sum(2)[:, :, None] + second.sum(2)[:, None] + difference
    return torch.where(total > 0, 2 * difference / torch.where(total > 0, total, 1.0), 0.0)
