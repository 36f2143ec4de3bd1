"""PSNR as a loss."""

from __future__ import annotations

from torch import Tensor, nn

from monai_ext.formulas.checks import check_same_shape
from monai_ext.formulas.images import decibels, mean_squared_error

__all__ = ["PSNRLoss"]


class PSNRLoss(nn.Module):
    """Negative PSNR in dB, mean over the images (Chen et al. 2021, HINet, arXiv:2105.06086).

        weight * mean over images of 10 log10(mse + floor)

    Each image has the same weight. A mean of squares, or of absolute differences, is dominated by images with much
    irreducible detail (forest), which can improve least.

    Called as loss(prediction, target) with images (B, C, H, W) in [0, 1], not clipped; returns a float32 scalar.

    Args:
        floor: added to the mean squared error of an image, on the scale of squared values; keeps the gradient of a
            nearly perfect image bounded. 1e-6 is the error at 60 dB.
        weight: 0.01 makes gradients about as large as those of an L1 loss.

    Raises:
        ValueError: `floor` is not above 0, or images of different shapes.
    """

    def __init__(self, *, floor: float = 1e-6, weight: float = 1.0):
        super().__init__()
        if not floor > 0:
            raise ValueError(f"floor={floor} must be above 0.")
        self.floor, self.weight = floor, weight

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        check_same_shape(prediction=prediction, target=target)
        return -self.weight * decibels(mean_squared_error(prediction.float(), target.float()) + self.floor).mean()
