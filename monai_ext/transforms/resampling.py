"""The matrices of one image axis behind `Degradation`: antialiased bicubic reduction and its pseudo-inverse.

Both are local (unless a wide blur has to be undone): a row reads only what lies near it, and away from the border all
rows are shifted copies of each other. A long axis is therefore cut into pieces that share three small matrices (first,
middle, last) with overlapping windows, and no matrix grows with the image. All are made in float64 on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Piece", "apply_to_columns", "apply_to_rows", "axis_pieces", "pseudo_inverse_matrix", "reduction_matrix"]

SHORTEST_PIECE = 64  # low-resolution pixels
PROBE_SIZE = 256  # low-resolution pixels of the axis on which the reach of the pseudo-inverse is measured
NEGLIGIBLE = 1e-13  # of entries of the pseudo-inverse, next to entries around 1
WORST_CONDITION = 1e10  # of A A^T; beyond, float64 has no digits left for what the blur took away


class Piece(NamedTuple):
    """Some consecutive outputs of an axis: `matrix` times the inputs in `window`."""

    window: slice
    matrix: Tensor


def reduction_kernel(scale: int, blur: float) -> tuple[Tensor, int]:
    """Unnormalised weights (K,), float64, and the offset o: low-res pixel i reads high-res pixels s i + o ... + K - 1.

    Keys' cubic convolution with a = -1/2, widened by the scale (its support is 4 low-res pixels), as in Pillow's
    BICUBIC; convolved with a Gaussian of `blur` high-res pixels, cut at four sigma.
    """
    offset = torch.arange(-2 * scale, 3 * scale)
    distance = ((offset.double() + 0.5) / scale - 0.5).abs()  # between pixel centres, in low-res pixels
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights = torch.where(distance < 1, near, far) * (distance < 2)
    first = -2 * scale
    if blur > 0:
        radius = math.ceil(4 * blur)
        gauss = torch.exp(-0.5 * (torch.arange(-radius, radius + 1).double() / blur) ** 2)
        weights = F.conv1d(weights[None, None], (gauss / gauss.sum())[None, None], padding=2 * radius).flatten()
        first -= radius
    used = weights.nonzero().flatten()
    return weights[int(used[0]) : int(used[-1]) + 1], first + int(used[0])


def reduction_matrix(scale: int, size: int, *, blur: float = 0.0) -> Tensor:
    """A of one axis, (size, s * size), float64, for `size` low-res pixels.

    At the border the kernel is cut off and the rest of its weights made to sum to one, as Pillow does.

    >>> reduction_matrix(2, 1)  # one low-res pixel of two high-res ones: their mean
    tensor([[0.5000, 0.5000]], dtype=torch.float64)
    """
    kernel, first = reduction_kernel(scale, blur)
    index = torch.arange(scale * size)[None] - scale * torch.arange(size)[:, None] - first
    inside = (index >= 0) & (index < len(kernel))
    weights = torch.where(inside, kernel[index.clamp(0, len(kernel) - 1)], 0.0)
    return weights / weights.sum(dim=1, keepdim=True)


def pseudo_inverse_matrix(scale: int, size: int, *, blur: float = 0.0) -> Tensor:
    """A+ = A^T (A A^T)^-1 of one axis, (s * size, size), float64, by a Cholesky factorisation.

    Raises:
        ValueError: the blur is so wide that A A^T is singular to float64.
    """
    reduction = reduction_matrix(scale, size, blur=blur)
    gram = reduction @ reduction.mT
    eigenvalues = torch.linalg.eigvalsh(gram)  # rising
    condition = float(eigenvalues[-1] / eigenvalues[0].clamp(min=torch.finfo(torch.float64).tiny))
    if condition > WORST_CONDITION:
        raise ValueError(
            f"blur={blur:g} with scale={scale} cannot be inverted (condition number {condition:.0e}, at most "
            f"{WORST_CONDITION:.0e}): use a blur of at most {scale} pixels, the scale."
        )
    return torch.cholesky_solve(reduction, torch.linalg.cholesky(gram)).mT


@lru_cache(maxsize=64)
def axis_pieces(
    kind: str, scale: int, blur: float, size: int, device: torch.device, dtype: torch.dtype
) -> tuple[Piece, ...]:
    """The operator `kind`, "reduce" or "invert", of an axis of `size` low-res pixels, ready for use."""
    make, per_output, per_input = _operator(kind, scale, blur)
    # Outside inference mode: tensors born in it could not take part in training later.
    with torch.inference_mode(False), torch.no_grad():
        reach = _reach(kind, scale, blur)
        pieces = _cut(make, size, reach=reach, per_output=per_output, per_input=per_input)
        moved: dict[int, Tensor] = {}  # middle pieces share one matrix
        for piece in pieces:
            if id(piece.matrix) not in moved:
                moved[id(piece.matrix)] = piece.matrix.to(device, dtype).contiguous()
        return tuple(Piece(piece.window, moved[id(piece.matrix)]) for piece in pieces)


def _operator(kind: str, scale: int, blur: float) -> tuple[Callable[[int], Tensor], int, int]:
    """Maker of the dense matrix of any size, and the outputs and inputs for each low-res pixel."""
    if kind == "reduce":
        return lambda size: reduction_matrix(scale, size, blur=blur), 1, scale
    return lambda size: pseudo_inverse_matrix(scale, size, blur=blur), scale, 1


@lru_cache(maxsize=64)
def _reach(kind: str, scale: int, blur: float) -> int | None:
    """How far, in low-res pixels, inputs (and borders) act on outputs; None if further than can be measured."""
    if kind != "invert":
        kernel, first = reduction_kernel(scale, blur)
        return math.ceil(max(-first, first + len(kernel)) / scale) + 1
    with torch.inference_mode(False), torch.no_grad():
        centre = PROBE_SIZE // 2
        rows = pseudo_inverse_matrix(scale, PROBE_SIZE, blur=blur)[scale * centre : scale * (centre + 1)]
        largest = rows.abs().amax(dim=0)  # (PROBE_SIZE,): over the high-res pixels of the central low-res one
        distance = (torch.arange(PROBE_SIZE) - centre).abs()
        reach = int(distance[largest > NEGLIGIBLE].max()) + 1
    return reach if reach < centre - 1 else None


def _cut(
    make: Callable[[int], Tensor], size: int, *, reach: int | None, per_output: int, per_input: int
) -> list[Piece]:
    """Pieces of an axis of `size` low-res pixels; a short one, or one without a reach, is a single dense piece."""
    length = max(SHORTEST_PIECE, reach or 0)
    if reach is None or size <= 3 * length:
        return [Piece(slice(0, size * per_input), make(size))]

    # Border | middle | border, each `length` long: the middle third does not feel the borders.
    model = make(3 * length)

    def part(start: int, stop: int, low: int, high: int) -> Tensor:
        return model[start * per_output : stop * per_output, low * per_input : high * per_input]

    def window(low: int, high: int) -> slice:
        return slice(low * per_input, high * per_input)

    middle = part(length, 2 * length, length - reach, 2 * length + reach)
    pieces = [Piece(window(0, length + reach), part(0, length, 0, length + reach))]
    for start in range(length, size - length, length):
        count = min(length, size - length - start)
        matrix = middle
        if count < length:
            matrix = part(length, length + count, length - reach, length + count + reach)
        pieces.append(Piece(window(start - reach, start + count + reach), matrix))
    last = part(2 * length, 3 * length, 2 * length - reach, 3 * length)
    return [*pieces, Piece(window(size - length - reach, size), last)]


def apply_to_rows(pieces: Sequence[Piece], image: Tensor) -> Tensor:
    """The operator along axis H of (..., H, W)."""
    parts = [piece.matrix @ image[..., piece.window, :] for piece in pieces]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)


def apply_to_columns(pieces: Sequence[Piece], image: Tensor) -> Tensor:
    """The operator along axis W of (..., H, W)."""
    parts = [image[..., piece.window] @ piece.matrix.mT for piece in pieces]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
