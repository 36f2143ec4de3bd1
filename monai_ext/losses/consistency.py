"""Consistency of an upscaled image with its low-resolution input."""

from __future__ import annotations

from torch import Tensor, nn

from monai_ext.formulas.checks import check_same_shape
from monai_ext.formulas.images import LinearReduction

__all__ = ["ConsistencyLoss"]


class ConsistencyLoss(nn.Module):
    """Mean squared difference of the reduced images, A x and A y: 10 ** (-LR-PSNR / 10) before rounding.

    It penalises detail of an adversarial generator that contradicts the input, and no other.

    Called as loss(prediction, target) with images (B, C, s h, s w) in [0, 1]; returns a float32 scalar.

    Args:
        degradation: with the method `reduce`, (B, C, s h, s w) -> (B, C, h, w), linear and differentiable.

    Raises:
        ValueError: images of different shapes.
    """

    def __init__(self, degradation: LinearReduction):
        super().__init__()
        self.degradation = degradation

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        check_same_shape(prediction=prediction, target=target)
        return self.degradation.reduce(prediction.float() - target.float()).square().mean()
