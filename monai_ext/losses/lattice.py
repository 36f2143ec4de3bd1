"""A penalty on the lattice that sub-pixel convolutions leave in upscaled images."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from monai_ext.formulas.checks import check_same_shape

__all__ = ["LatticePenalty"]


class LatticePenalty(nn.Module):
    """Mean square of the lattice in prediction - target, window by window.

    Each pixel of the low resolution becomes a square of s x s pixels. In windows of `size` x `size` such squares, half
    overlapping, the mean error at each of the s x s places within a square, less the mean of all of them, is the
    lattice. Texture and noise have next to none, since they average out over a window.

    Called as loss(prediction, target) with images (B, C, s h, s w); returns a float32 scalar.

    >>> import torch
    >>> lattice = torch.zeros(1, 1, 16, 16)
    >>> lattice[..., ::2, ::2] = 0.4  # 0.3 more than the mean at one place of four, 0.1 less at the others
    >>> round(LatticePenalty(2, size=4)(lattice, torch.zeros(1, 1, 16, 16)).item(), 4)
    0.03

    Args:
        scale: s.
        size: of a window in pixels of the low resolution; images that are smaller are one window.

    Raises:
        ValueError: a size below 2; images of different shapes, or whose sides are no multiples of s.
    """

    def __init__(self, scale: int, size: int = 8):
        super().__init__()
        if size < 2:
            raise ValueError(f"size={size} must be at least 2: a single pixel has no lattice.")
        self.scale, self.size = scale, size

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        check_same_shape(prediction=prediction, target=target)
        height, width = prediction.shape[-2:]
        if height % self.scale or width % self.scale:
            raise ValueError(f"images of {height}x{width} pixels do not divide by scale={self.scale}.")
        places = F.pixel_unshuffle(prediction.float() - target.float(), self.scale)  # (B, C s s, h, w)
        window = [min(self.size, side) for side in places.shape[-2:]]
        means = F.avg_pool2d(places, window, self.size // 2).unflatten(1, (-1, self.scale**2))
        return (means - means.mean(2, keepdim=True)).square().mean()
