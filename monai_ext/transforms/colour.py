"""Intensity augmentation of whole batches: colour as one 3x4 matrix an image, gamma, blur and noise.

Images are (B, C, *S) scaled to [0, 1], *S being (H, W) or (H, W, D), in colour (H, W); n images at once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601
# Chroma axes of the YIQ space (FCC 1953): hue is the angle in their plane, and luma stays what it was.
CHROMA = ((0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))


def colour_matrix(brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor) -> tuple[Tensor, Tensor]:
    """Brightness, contrast, saturation and hue, in this order, as x -> L x + P mean(x).

    All four are linear in the colours, and the grey around which the contrast is stretched is linear in the image's
    mean colour, so together they are one 3x4 matrix [L, P mean(x)] that needs one look at the image.

    Args:
        brightness: factor, (n,); x -> b x.
        contrast: factor, (n,); x -> c x + (1 - c) m, m the mean grey of the image.
        saturation: factor, (n,); x -> s x + (1 - s) grey(x).
        hue: turns of the chroma plane of YIQ in [-0.5, 0.5], (n,).

    Returns:
        L, (n, 3, 3), and P, (n, 3, 3), both float32.
    """
    brightness, contrast, saturation, hue = (v.double()[:, None, None] for v in (brightness, contrast, saturation, hue))
    grey = torch.tensor(GREY, dtype=torch.float64)
    to_grey, identity = grey.expand(3, 3), torch.eye(3, dtype=torch.float64)
    yiq = torch.stack([grey, *torch.tensor(CHROMA, dtype=torch.float64)])
    angle = 2 * torch.pi * hue
    turned = torch.eye(3, dtype=torch.float64).repeat(len(hue), 1, 1)
    turned[:, 1:, 1:] = torch.cat(
        [torch.cat([angle.cos(), -angle.sin()], dim=2), torch.cat([angle.sin(), angle.cos()], dim=2)], dim=1
    )
    hue_matrix = torch.linalg.inv(yiq) @ turned @ yiq
    linear = hue_matrix @ (saturation * identity + (1 - saturation) * to_grey) * (contrast * brightness)
    # Saturation and hue leave grey as it is, so the pivot of the contrast passes through them unchanged.
    pivot = (1 - contrast) * brightness * to_grey
    return linear.float(), pivot.float()


def recolour(images: Tensor, linear: Tensor, pivot: Tensor | None = None) -> Tensor:
    """Images with `colour_matrix` applied, not clamped, (B, 3, H, W); `pivot` may be left out where contrast is 1."""
    flat = images.flatten(2)
    result = torch.bmm(linear, flat)
    if pivot is not None:
        result += torch.bmm(pivot, flat.mean(2, keepdim=True))
    return result.view(images.shape)


def gamma_(images: Tensor, gamma: Tensor) -> Tensor:
    """x -> x^gamma in place, for x in [0, 1] and gamma (B,) > 0; exp(gamma log x) vectorises where pow does not."""
    return images.log_().mul_(gamma.view(-1, *[1] * (images.ndim - 1))).exp_()


def gaussian_kernels(sigma: Tensor, radius: int) -> Tensor:
    """Normalised Gaussian windows, (n, 2 radius + 1), for sigma (n,) in pixels; the identity where sigma is 0."""
    offset = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offset / sigma.double().clamp(min=1e-3)[:, None]) ** 2)
    return (weights / weights.sum(1, keepdim=True)).float()


def blur(images: Tensor, kernels: Tensor) -> Tensor:
    """Images convolved with their own separable kernel (B, k), mirrored at the border, (B, C, *S)."""
    batch, channels, *size = images.shape
    radius = kernels.shape[1] // 2
    if radius >= min(size):
        raise ValueError(f"blur reaches {radius} pixels, too far for an image of {tuple(size)}: choose less.")
    planes, axes = batch * channels, len(size)
    weights = kernels.repeat_interleave(channels, dim=0, output_size=planes)[:, None]  # (B C, 1, k)
    result = F.pad(images, (radius,) * 2 * axes, mode="reflect").view(1, planes, *[side + 2 * radius for side in size])
    convolve = F.conv2d if axes == 2 else F.conv3d
    for axis in reversed(range(axes)):
        shape = [weights.shape[-1] if place == axis else 1 for place in range(axes)]
        result = convolve(result, weights.view(planes, 1, *shape), groups=planes)
    return result.view(images.shape)


class NoiseBank:
    """Standard normal noise, read for each image from one stored stretch at its offset.

    One copy a batch instead of a random number a pixel (10 times cheaper on a CPU), equal on every device, for every
    batch size and at every replay. Two samples share values only at different pixels.

    Args:
        seed: of the stored numbers.
    """

    OFFSETS = 2**20

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._stored: dict[torch.device, Tensor] = {}

    def __call__(self, offsets: Tensor, shape: torch.Size) -> Tensor:
        """Noise of mean 0 and standard deviation 1, `shape` = (B, ...), for offsets (B,) in [0, OFFSETS)."""
        length = shape[1:].numel()
        bank = self._stored.get(offsets.device)
        if bank is None or bank.numel() < length + self.OFFSETS:
            generator = torch.Generator().manual_seed(self.seed)
            bank = torch.randn(length + self.OFFSETS, generator=generator).to(offsets.device)
            self._stored[offsets.device] = bank
        return bank.unfold(0, length, 1).index_select(0, offsets).view(shape)
