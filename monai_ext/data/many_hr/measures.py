"""How far high-resolution images are from one low-resolution image, and from each other, in levels of 8 bits.

The operator is one plain matrix M (h, s h) for rows and columns alike, A x = M x M^T, so that whoever has the matrix
can repeat every measurement without this package.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from monai_ext.formulas.images import PSNR_CEILING, LinearReduction

__all__ = [
    "LowResGap",
    "fitted_psnr",
    "low_res_gaps",
    "observed",
    "operator_matrix",
    "pairwise_rms",
    "reduced",
]

LEVELS = 255


class LowResGap(NamedTuple):
    """What is left between a reduced image and the low-resolution image.

    Attributes:
        largest: greatest difference of a pixel, in levels of 8 bits, before the reduced image is rounded.
        psnr: of that difference, in dB, at most 100. An image that only differs by the rounding has about 59.
        differing: pixels that differ once the reduced image is rounded to 8 bits, over all channels.
    """

    largest: float
    psnr: float
    differing: int


def operator_matrix(degradation: LinearReduction, size: int) -> Tensor:
    """M, (size / s, size), float64: the reduction of one axis of `size` high-resolution pixels.

    Raises:
        ValueError: `size` is no multiple of the scale, or the operator draws noise or is not the same linear map of
            rows and columns.
    """
    scale = degradation.scale
    if size < scale or size % scale:
        raise ValueError(f"size {size} is no multiple of the scale {scale}: choose {max(1, size // scale) * scale}.")
    if getattr(degradation, "noise", 0):
        raise ValueError("the operator draws noise: low-resolution images of equal scenes would differ; set noise=0.")
    impulses = torch.eye(size, dtype=torch.float64).reshape(size, 1, size, 1).expand(-1, -1, -1, scale)
    matrix = degradation.reduce(impulses.contiguous())[:, 0, :, 0].T.contiguous()
    probe = torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if not torch.allclose(degradation.reduce(probe), matrix @ probe @ matrix.T, atol=1e-9):
        raise ValueError("the operator is not one linear map of rows and columns: no matrix stands for it.")
    return matrix


def reduced(matrix: Tensor, high_res: Tensor) -> Tensor:
    """A x in levels, float64 (..., h, w), of `high_res` in levels (..., H, W), any type."""
    return matrix @ high_res.double() @ matrix.T


def observed(matrix: Tensor, high_res: Tensor) -> Tensor:
    """The low-resolution image of `high_res` as a file of 8 bits has it, uint8 (..., h, w)."""
    return reduced(matrix, high_res).clamp(0, LEVELS).round().to(torch.uint8)


def low_res_gaps(matrix: Tensor, high_res: Tensor, low_res: Tensor) -> list[LowResGap]:
    """The gap of each of `high_res` (K, C, H, W) to the one `low_res` (C, h, w), both in levels.

    What leaves the range of a file, because bicubic kernels overshoot, is cut off first, as in the low-resolution
    image itself.
    """
    seen = reduced(matrix, high_res).clamp(0, LEVELS)
    difference = (seen - low_res.double()).flatten(1)
    largest = difference.abs().amax(1).tolist()
    errors = difference.square().mean(1).tolist()
    differing = (seen.round() != low_res.double()).flatten(1).sum(1).tolist()
    return [LowResGap(*each) for each in zip(largest, map(_psnr, errors), differing, strict=True)]


def fitted_psnr(matrix: Tensor, high_res: Tensor, low_res: Tensor) -> list[float]:
    """PSNR in dB of each of `high_res` (K, C, H, W) to `low_res` (C, h, w) with gain and offset of each band fitted.

    Another date has another light, which is fitted away here; another scene is not.
    """
    seen = reduced(matrix, high_res).flatten(2)  # (K, C, h w)
    wanted = low_res.double().flatten(1)
    seen, wanted = seen - seen.mean(2, keepdim=True), wanted - wanted.mean(1, keepdim=True)
    gain = (seen * wanted).sum(2) / seen.square().sum(2).clamp(min=torch.finfo(torch.float64).tiny)
    return [_psnr(error) for error in (gain[..., None] * seen - wanted).square().mean((1, 2)).tolist()]


def pairwise_rms(high_res: Tensor) -> list[float]:
    """Root mean square differences of all pairs of `high_res`, uint8 (K, ...), in levels: (0, 1), (0, 2) ... (1, 2) ...

    >>> [round(d, 3) for d in pairwise_rms(torch.tensor([[0, 0], [3, 4], [0, 4]], dtype=torch.uint8))]
    [3.536, 2.828, 2.121]
    """
    flat = high_res.flatten(1).double()
    products = flat @ flat.T  # sums of integers below 2^53: exact in any order
    squares = products.diagonal()
    first, second = torch.triu_indices(len(flat), len(flat), offset=1)
    sums = squares[first] + squares[second] - 2 * products[first, second]
    return (sums / flat.shape[1]).sqrt().tolist()


def _psnr(mean_square: float) -> float:
    return min(PSNR_CEILING, 10 * math.log10(LEVELS**2 / mean_square)) if mean_square > 0 else PSNR_CEILING
