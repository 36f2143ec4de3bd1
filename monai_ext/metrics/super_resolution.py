"""Scores of upscaled images against the originals, image by image, with every convention fixed.

    psnr, ssim              over all channels of the whole image
    psnr_luma, ssim_luma    on the luma of RGB images (ITU-R BT.601, studio range), a border of `scale` pixels cut off
    lr_psnr                 PSNR of the reduced prediction against the low-resolution input
    perceptual              a distance of network features

PSNR is 10 log10(range^2 / MSE) with the MSE over all pixels and channels of one image; SSIM as in Wang et al. 2004:
Gaussian window of 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03, biased variances, mean over the places where the window
fits and over channels: skimage's `structural_similarity` with `gaussian_weights=True, use_sample_covariance=False`.
Means are over images, each counting once. All is computed in float64 (float32 where a device has none).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_ext.formulas.images import (
    PSNR_CEILING,
    LinearReduction,
    as_wide,
    check_image_pair,
    known_mean,
    peak_signal_to_noise,
    rounded,
)
from monai_ext.metrics.image_scores import ImageScores

__all__ = [
    "SUPER_RESOLUTION_SCORES",
    "SuperResolutionScores",
    "luma",
    "peak_signal_to_noise",
    "shave",
    "structural_similarity",
]

SUPER_RESOLUTION_SCORES = ("psnr", "ssim", "psnr_luma", "ssim_luma", "lr_psnr", "perceptual")
WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03
BLOCK = 64  # pixels of a line smoothed by one product


def luma(image: Tensor) -> Tensor:
    """Y of RGB (B, 3, H, W) in [0, 1]: (B, 1, H, W) in [16/255, 235/255], float64, as MATLAB's `rgb2ycbcr`.

    Y = (16 + 65.481 R + 128.553 G + 24.966 B) / 255, not rounded to levels.

    >>> (luma(torch.ones(1, 3, 1, 1)) * 255).item()
    235.0

    Raises:
        ValueError: not three channels.
    """
    if image.ndim != 4 or image.shape[1] != 3:
        raise ValueError(f"image {tuple(image.shape)} has no luma: it must be RGB, (B, 3, H, W).")
    red, green, blue = as_wide(image).unbind(1)
    return ((16 + 65.481 * red + 128.553 * green + 24.966 * blue) / 255)[:, None]


def shave(image: Tensor, border: int) -> Tensor:
    """(..., H, W) without `border` pixels on each side.

    Raises:
        ValueError: a negative border, or nothing is left.
    """
    height, width = image.shape[-2:]
    if not 0 <= 2 * border < min(height, width):
        raise ValueError(f"border={border} must be at least 0 and leave something of {height} x {width} pixels.")
    return image[..., border : height - border, border : width - border]


def structural_similarity(
    prediction: Tensor, target: Tensor, *, data_range: float = 1.0, known: Tensor | None = None
) -> Tensor:
    """SSIM of each image, (B,), at most 1; NaN where there is a NaN.

    MONAI's `SSIMMetric` squares in float32 and is off by up to 1.5e-5 on smooth bright images, in twice the time.

    Args:
        prediction, target: (B, C, H, W), any real type, H and W >= 11.
        data_range: the largest possible value less the smallest one: 1, or 255 for images of 8 bits.
        known: (B, 1, H, W) of bool: windows count in which all pixels are known; None: all.

    Raises:
        ValueError: shapes differ or are not (B, C, H, W), or an image smaller than the window.
    """
    check_image_pair(prediction, target, data_range=data_range)
    if min(prediction.shape[-2:]) < WINDOW:
        raise ValueError(
            f"SSIM needs {WINDOW} x {WINDOW} pixels, the image has {prediction.shape[-2]} x {prediction.shape[-1]} "
            "(after cutting its border): score larger images."
        )
    x, y = as_wide(prediction), as_wide(target)
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mean_x, mean_y = _smooth(x), _smooth(y)
    product = mean_x * mean_y
    squares = mean_x.square() + mean_y.square()
    variances = _smooth(x.square() + y.square()) - squares  # of both together: SSIM has their sum only
    covariance = _smooth(x * y) - product
    similarity = (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))
    if known is None:
        return similarity.flatten(1).mean(1)
    return known_mean(similarity, -F.max_pool2d(-known.to(similarity), WINDOW, stride=1) > 0)


def _smooth(image: Tensor) -> Tensor:
    """Gaussian mean at the places where the window fits, (..., H - 10, W - 10).

    As products with a banded matrix, block after block: several times faster than convolutions of one channel in
    float64, and exact where convolutions would run in TF32.
    """
    band = _gaussian_band(image.device, image.dtype)
    step = len(band)

    def blocks(size: int) -> list[tuple[slice, Tensor]]:
        counts = [(start, min(step, size - start)) for start in range(0, size, step)]
        return [
            (slice(start, start + count + WINDOW - 1), band[:count, : count + WINDOW - 1]) for start, count in counts
        ]

    height, width = (size - WINDOW + 1 for size in image.shape[-2:])
    lines = torch.cat([image[..., window] @ rows.mT for window, rows in blocks(width)], dim=-1)
    return torch.cat([rows @ lines[..., window, :] for window, rows in blocks(height)], dim=-2)


@lru_cache(maxsize=8)
def _gaussian_band(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Normalised window weights, one place to the right in each row: (54, 64)."""
    with torch.inference_mode(False):  # or the matrix could never take part in training
        offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
        weights = torch.exp(-0.5 * (offsets / SIGMA) ** 2)
        rows = [torch.nn.functional.pad(weights, (i, BLOCK - WINDOW - i)) for i in range(BLOCK - WINDOW + 1)]
        return (torch.stack(rows) / weights.sum()).to(device, dtype)


class SuperResolutionScores(ImageScores):
    """The scores of `SUPER_RESOLUTION_SCORES` as a MONAI metric; they stay on the device until they are read.

    Called as metric(y_pred, y, low_res=None, known=None) with images in [0, 1], tensors (B, C, H, W), or lists of
    (C, H, W) of differing sizes. Scores that cannot be computed are left out: luma for other than three channels,
    `lr_psnr` and `perceptual` without their argument. `aggregate` returns means by name, `per_image` the values behind
    them.

    `known` (B, 1, H, W) of bool are the pixels that count: SSIM takes the windows of known pixels, LR-PSNR the
    low-resolution pixels to which known ones alone contribute, and the perceptual distance is that with the target in
    place of all others, over the share of the known. `levels` (B,) stand for the metric's own, unless that has none.

    Args:
        scale: pixels cut off each side before the scores on luma.
        degradation: with the method `reduce`; without `low_res` the reduced target stands for the input.
        perceptual: function of prediction and target (B, C, H, W) -> (B,), such as
            `monai_ext.losses.PerceptualDistance(features, reduction="none")`.
        levels: predictions are clipped to [0, 1] and rounded to multiples of 1 / levels before they are scored, as a
            file of 8 bits (255) or 16 bits (65535) holds them; None scores them as they are.

    In means a PSNR counts as at most 100 dB, since one tile without error would make them infinite. An image with a NaN
    scores NaN, and so does the mean.

    Raises:
        ValueError: `scale` below 1 or `levels` below 1; images that no score is defined for; batches of which only some
            are RGB.
    """

    def __init__(
        self,
        scale: int = 4,
        *,
        degradation: LinearReduction | None = None,
        perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
        levels: int | None = 255,
    ):
        super().__init__()
        if scale < 1 or (levels is not None and levels < 1):
            raise ValueError(f"scale={scale} and levels={levels} must be at least 1 (or levels None).")
        self.scale, self.degradation, self.perceptual, self.levels = scale, degradation, perceptual, levels

    def _scores(
        self,
        y_pred: Tensor,
        y: Tensor,
        low_res: Tensor | None = None,
        known: Tensor | None = None,
        levels: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        check_image_pair(y_pred, y)
        known = None if known is None or bool(known.all()) else known.to(y.device)
        prediction, target = y_pred, y
        if self.levels is not None:
            prediction = rounded(as_wide(prediction).clamp(0, 1), self.levels, own=levels)
        scores = {
            "psnr": peak_signal_to_noise(prediction, target, known=known),
            "ssim": structural_similarity(prediction, target, known=known),
        }
        if prediction.shape[1] == 3:
            pair = [shave(luma(image), self.scale) for image in (prediction, target)]
            inner = None if known is None else shave(known, self.scale)
            scores["psnr_luma"] = peak_signal_to_noise(*pair, known=inner)
            scores["ssim_luma"] = structural_similarity(*pair, known=inner)
        if self.degradation is not None:
            given = self.degradation.reduce(as_wide(target)) if low_res is None else low_res.to(target.device)
            reduced = self.degradation.reduce(as_wide(prediction))
            scores["lr_psnr"] = peak_signal_to_noise(reduced, given, known=_reduced_known(known, self.degradation))
        if self.perceptual is not None:
            shown = prediction if known is None else torch.where(known, prediction, as_wide(target))
            scores["perceptual"] = self.perceptual(shown.to(torch.float32), target.to(torch.float32))
            if known is not None:
                scores["perceptual"] = scores["perceptual"] / known.float().flatten(1).mean(1)
        return scores

    def _for_mean(self, name: str, scores: Tensor) -> Tensor:
        return scores.clamp(max=PSNR_CEILING) if "psnr" in name else scores


def _reduced_known(known: Tensor | None, degradation: LinearReduction) -> Tensor | None:
    """Which low-resolution pixels depend on `known` (B, 1, s h, s w) pixels alone, by a bicubic kernel and the blur."""
    if known is None:
        return None
    scale, radius = degradation.scale, 2 * degradation.scale + math.ceil(4 * degradation.blur)
    unknown = F.max_pool2d((~known).float(), 2 * radius + 1, stride=1, padding=radius)
    return unknown[..., scale // 2 :: scale, scale // 2 :: scale] == 0
