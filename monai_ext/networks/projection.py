"""Exact consistency as the last layer of a network: the nearest image that reduces to the input.

In Python it calls the operator that it was given. A copy for TorchScript, torch.export or ONNX cannot hold that object,
so it uses the two matrices of an image axis, built from the operator's kernel in each call: the same numbers for
operators that are separable, move by `scale` pixels, and are cut off and normalised at the border.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from monai_ext.formulas.images import LinearReduction

__all__ = ["ConsistencyProjection"]

PROBE = 33  # low-resolution pixels of the line on which the kernel is read off
DIGITS = 30  # nats to which the inverse is iterated: 1e-13


class ConsistencyProjection(nn.Module):
    """high_res (B, C, s h, s w), low_res (B, C, h, w) -> the image that reduces to low_res, in the type of high_res.

    Args:
        operator: A; not a module, it holds no weights.
        iterations: 0: x + A+ (y - A x), which may leave [0, 1]. n: that and clipping, n times, so that the result is
            within [0, 1] and the gap of its reduction small; see `Degradation.project_within`.

    Raises:
        ValueError: the operator's kernel is wider than can be read off.
    """

    def __init__(self, operator: LinearReduction, iterations: int = 4):
        super().__init__()
        if iterations < 0:
            raise ValueError(f"iterations={iterations} must be at least 0.")
        self.operator = operator
        self.scale, self.iterations = int(operator.scale), iterations
        kernel, self.first = _kernel(operator)
        self.kernel: Tensor
        self.register_buffer("kernel", kernel, persistent=False)
        self.steps: int = 0
        self.steps = _newton_steps(self._axis(PROBE, kernel)[0])

    def forward(self, high_res: Tensor, low_res: Tensor, within: bool = False) -> Tensor:
        """The projection; with `within`, alternating with clipping, `iterations` times."""
        if torch.jit.is_scripting():
            return self.by_matrices(high_res, low_res, within)
        else:
            return self._by_operator(high_res, low_res, within)

    @torch.jit.unused
    def _by_operator(self, high_res: Tensor, low_res: Tensor, within: bool) -> Tensor:
        if torch.jit.is_tracing() or torch.compiler.is_exporting():
            return self.by_matrices(high_res, low_res, within)
        if within and self.iterations:
            return self.operator.project_within(high_res, low_res, low=0.0, high=1.0, iterations=self.iterations)
        return self.operator.project(high_res, low_res)

    def by_matrices(self, high_res: Tensor, low_res: Tensor, within: bool) -> Tensor:
        """The same by dense matrices made on the spot; memory grows with the square of the longer side."""
        rows, rows_back = self._axis(low_res.shape[2], low_res)
        columns, columns_back = self._axis(low_res.shape[3], low_res)
        image, target = high_res.double(), low_res.double()
        for _ in range(max(1, self.iterations if within else 0)):
            gap = target - rows @ image @ columns.transpose(0, 1)
            image = image + rows_back @ gap @ columns_back.transpose(0, 1)
            if within and self.iterations > 0:
                image = image.clamp(0.0, 1.0)
        return image.to(high_res.dtype)

    def _axis(self, size: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """A and A+ of an axis of `size` low-res pixels, (size, s size) and (s size, size), float64."""
        kernel = self.kernel.to(like.device)
        place = torch.arange(size * self.scale, device=like.device)[None]
        index = place - self.scale * torch.arange(size, device=like.device)[:, None] - self.first
        inside = (index >= 0) & (index < kernel.shape[0])
        weights = torch.where(inside, kernel[index.clamp(0, kernel.shape[0] - 1)], torch.zeros_like(kernel[:1]))
        reduction = weights / weights.sum(dim=1, keepdim=True)
        gram = reduction @ reduction.transpose(0, 1)
        unit = torch.eye(size, device=like.device, dtype=torch.float64)
        inverse = unit / gram.abs().sum(dim=1).max()
        for _ in range(self.steps):  # Newton's iteration (Schulz 1933): nothing but products, for ONNX
            inverse = inverse @ (2 * unit - gram @ inverse)
        return reduction, reduction.transpose(0, 1) @ inverse


@torch.no_grad()
def _kernel(operator: LinearReduction) -> tuple[Tensor, int]:
    """Weights (K,), float64, and the offset o: low-res pixel i reads high-res pixels s i + o ... s i + o + K - 1."""
    scale = int(operator.scale)
    impulses = torch.eye(scale * PROBE, dtype=torch.float64)[:, None, :, None].expand(-1, 1, -1, scale)
    seen = operator.reduce(impulses.contiguous())[:, 0, :, 0]  # (s PROBE, PROBE): the transpose of A of one axis
    row = seen[:, PROBE // 2]
    used = row.abs().gt(1e-12 * row.abs().max()).nonzero().flatten()
    low, high = int(used[0]), int(used[-1]) + 1
    if low == 0 or high == len(row):
        raise ValueError(
            f"{operator!r} reaches over more than {PROBE // 2} low-resolution pixels to each side: use a blur of at "
            f"most {scale} pixels, the scale."
        )
    return row[low:high].clone(), low - scale * (PROBE // 2)


def _newton_steps(reduction: Tensor) -> int:
    """Steps after which the inverse of A A^T is exact to float64: the error 1 - 1 / condition squares in each."""
    gram = reduction @ reduction.mT
    condition = float(gram.abs().sum(1).max() / torch.linalg.eigvalsh(gram)[0].clamp(min=1e-12))
    return math.ceil(math.log2(DIGITS * condition))
