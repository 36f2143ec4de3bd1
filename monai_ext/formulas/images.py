"""Mean squared error of images, also in decibels, and the protocol of a linear reduction."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from monai_ext.formulas.checks import check_same_shape

__all__ = [
    "LinearReduction",
    "PSNR_CEILING",
    "as_wide",
    "check_image_pair",
    "decibels",
    "known_mean",
    "mean_squared_error",
    "peak_signal_to_noise",
    "rounded",
]

PSNR_CEILING = 100.0  # dB, in means: one tile without error would make them infinite


class LinearReduction(Protocol):
    """How a high resolution x (B, C, s h, s w) becomes a low one y, linearly: `monai_ext.transforms.Degradation`."""

    scale: int
    blur: float  # standard deviation of a Gaussian before the reduction, in high-resolution pixels

    def reduce(self, high_res: Tensor) -> Tensor:
        """A x."""
        ...

    def pseudo_inverse(self, low_res: Tensor) -> Tensor:
        """A+ y."""
        ...

    def null_space(self, high_res: Tensor) -> Tensor:
        """x - A+ A x."""
        ...

    def project(self, high_res: Tensor, low_res: Tensor) -> Tensor:
        """x + A+ (y - A x)."""
        ...

    def project_within(self, high_res: Tensor, low_res: Tensor, *, low: float, high: float, iterations: int) -> Tensor:
        """The same and clipping, alternating."""
        ...


def as_wide(image: Tensor) -> Tensor:
    """A plain tensor of float64, or of float32 where the device has none: sums over images are long."""
    return image.as_subclass(Tensor).to(torch.float32 if image.device.type == "mps" else torch.float64)


def rounded(images: Tensor, levels: int | None, *, own: Tensor | None = None) -> Tensor:
    """Images (B, ...) rounded to multiples of 1 / levels, as their file holds them, of the type of `as_wide`.

    >>> rounded(torch.tensor([[0.3], [0.3]]), 4, own=torch.tensor([4, 10])).tolist()
    [[0.25], [0.3]]

    Args:
        images: values; those beyond [0, 1] stay beyond.
        levels: of all images; None: they are not rounded.
        own: (B,), levels of each image, which stand for `levels` unless that is None.
    """
    images = as_wide(images)
    if levels is None:
        return images
    steps = levels if own is None else as_wide(own.to(images.device)).view(-1, *[1] * (images.ndim - 1))
    return (images * steps).round() / steps


def mean_squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of (prediction - target)^2 over everything but the batch, in the type given: (B,)."""
    return (prediction - target).square().flatten(1).mean(1)


def decibels(error: Tensor, *, data_range: float = 1.0) -> Tensor:
    """10 log10(range^2 / error) of a mean squared error: PSNR.

    >>> decibels(torch.tensor([0.01, 1.0]))
    tensor([20.,  0.])
    """
    return 20 * math.log10(data_range) - 10 * error.log10()


def peak_signal_to_noise(
    prediction: Tensor, target: Tensor, *, data_range: float = 1.0, known: Tensor | None = None
) -> Tensor:
    """PSNR of each image in dB, (B,), float64; infinite for equal images, NaN where there is a NaN.

    MONAI's `PSNRMetric` gives the same number, as a metric object and in the type of the images.

    >>> round(peak_signal_to_noise(torch.full((1, 1, 2, 2), 0.1), torch.zeros(1, 1, 2, 2)).item(), 4)
    20.0

    Args:
        prediction, target: (B, C, H, W), any real type.
        data_range: the largest possible value less the smallest one: 1, or 255 for images of 8 bits.
        known: (B, 1, H, W) of bool: pixels that count; None: all.

    Raises:
        ValueError: shapes differ or are not (B, C, H, W), or images of integers and a range of 1.
    """
    check_image_pair(prediction, target, data_range=data_range)
    if known is None:
        error = mean_squared_error(as_wide(prediction), as_wide(target))
    else:
        error = known_mean((as_wide(prediction) - as_wide(target)).square(), known)
    return decibels(error, data_range=data_range)


def known_mean(values: Tensor, known: Tensor) -> Tensor:
    """Mean of `values` (B, C, H, W) over the pixels `known` (B, 1, H, W): (B,); NaN where there are none.

    >>> values = torch.tensor([1.0, 3.0, 9.0]).view(1, 1, 1, 3)
    >>> known_mean(values, torch.tensor([True, True, False]).view(1, 1, 1, 3))
    tensor([2.])
    """
    weights = known.to(values).expand_as(values).flatten(1)
    return (values.flatten(1) * weights).sum(1) / weights.sum(1)


def check_image_pair(prediction: Tensor, target: Tensor, *, data_range: float = 1.0) -> None:
    """Raise a ValueError unless both are (B, C, H, W) of one shape, with values that the range fits."""
    check_same_shape(prediction=prediction, target=target)
    if prediction.ndim != 4:
        raise ValueError(f"images {tuple(prediction.shape)} must be (B, C, H, W).")
    for image in (prediction, target):
        if data_range == 1 and not image.is_floating_point() and image.dtype != torch.bool:
            raise ValueError(f"data_range=1 is not the range of {image.dtype}: pass 255 for 8 bits, 65535 for 16.")
