"""A loss on randomly shifted crops, so that strides in the loss favour no lattice of pixels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["ShiftedCrops"]


class ShiftedCrops(nn.Module):
    """loss(prediction, target) of both images (B, C, H, W) cropped by `shift` rows and columns at a random offset.

    The offset, 0 to `shift` each way, is drawn anew in each call and is the same for both images. The strides of a
    feature network otherwise coincide with the sub-pixel grid of a generator, and a faint lattice of pixels lowers the
    distance of features.

    Args:
        loss: of images of any size.
        shift: best the largest stride of the features, or more.

    Raises:
        ValueError: `shift` is negative, or an image is not larger.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], shift: int):
        super().__init__()
        if shift < 0:
            raise ValueError(f"shift={shift} is a number of pixels: not negative.")
        self.loss, self.shift = loss, shift

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        height, width = (size - self.shift for size in target.shape[-2:])
        if min(height, width) < 1:
            raise ValueError(
                f"images of {target.shape[-2]}x{target.shape[-1]} pixels cannot lose shift={self.shift} of them: set a "
                "smaller shift or larger crops."
            )
        top, left = torch.randint(self.shift + 1, (2,)).tolist()
        window = (..., slice(top, top + height), slice(left, left + width))
        return self.loss(prediction[window], target[window])
