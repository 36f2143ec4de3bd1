"""The degradation of super-resolution, one known operator for data, losses, metrics and tests.

A is blur (if any), then antialiased bicubic reduction, a = -1/2, pixel centres aligned: what Pillow's BICUBIC does,
borders included, without its rounding and clipping to 8 bits between columns and rows. A is separable and linear, so
its Moore-Penrose pseudo-inverse A+ is exact, and the high-resolution images that agree with a low-resolution y are
those of the form A+ y + (x - A+ A x).
"""

from __future__ import annotations

import torch
from torch import Tensor

from monai_ext.formulas.checks import check_not_negative
from monai_ext.formulas.images import as_wide
from monai_ext.transforms.resampling import apply_to_columns, apply_to_rows, axis_pieces

__all__ = ["Degradation"]


class Degradation:
    """High resolution (B, C, s h, s w) -> low resolution (B, C, h, w), floats on the [0, 1] scale, on any device.

    Called as `degradation(high_res, generator=None)` it observes: A x, plus noise, rounded to `levels`. The methods
    are the linear part alone: differentiable, and computed in float64 whatever the type of the image (so neither
    autocast nor TF32 blurs them; float32 where a device has no float64), then returned in the image's type. Matrices
    are cached for each axis size and device, and stay small for any size of image, but for the pseudo-inverse of a blur
    wider than about half the scale: its reach is long, so its matrix is dense. The instance holds no tensors.

    >>> degradation = Degradation(scale=2)
    >>> scene = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> low_res = degradation(scene)
    >>> low_res.shape, torch.allclose(low_res.mean(), scene.mean())
    (torch.Size([1, 1, 2, 2]), True)
    >>> torch.allclose(degradation(degradation.pseudo_inverse(low_res)), low_res)
    True

    Args:
        scale: s, a whole number >= 2.
        blur: standard deviation of a Gaussian in high-resolution pixels, before the reduction. It is part of A: at the
            border, the kernel of both together is cut off and normalised.
        noise: standard deviation of white Gaussian noise on the [0, 1] scale, added to A x.
        levels: 255 (65535) clips the observation to [0, 1] and rounds it as an 8-bit (16-bit) file would; None leaves
            it as it is. Bicubic kernels overshoot at edges, so that A x alone may leave [0, 1].

    Raises:
        ValueError: a parameter out of range; an image that is not floating (B, C, H, W), or whose H or W is no
            multiple of the scale; images of different shapes.
    """

    def __init__(self, scale: int = 4, *, blur: float = 0.0, noise: float = 0.0, levels: int | None = None):
        if scale != int(scale) or scale < 2:
            raise ValueError(f"scale={scale} must be a whole number of at least 2.")
        if levels is not None and levels < 1:
            raise ValueError(f"levels={levels} must be at least 1 (255 for 8 bits), or None.")
        self.scale, self.levels = int(scale), levels
        self.blur, self.noise = check_not_negative("blur", blur), check_not_negative("noise", noise)

    def rounded(self, levels: int | None) -> Degradation:
        """The same with other `levels`."""
        return Degradation(self.scale, blur=self.blur, noise=self.noise, levels=levels)

    def __repr__(self) -> str:
        return f"Degradation(scale={self.scale}, blur={self.blur}, noise={self.noise}, levels={self.levels})"

    def __call__(self, high_res: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """An observation of `high_res`, (B, C, h, w); `generator` (on any device) draws the noise."""
        low_res = self.reduce(high_res)
        if self.noise:
            source = generator.device if generator is not None else low_res.device
            drawn = torch.randn(low_res.shape, generator=generator, device=source, dtype=torch.float32)
            low_res = low_res + self.noise * drawn.to(low_res)
        if self.levels:
            low_res = (low_res.clamp(0, 1) * self.levels).round() / self.levels
        return low_res

    def reduce(self, high_res: Tensor) -> Tensor:
        """A x, (B, C, h, w), without noise and rounding."""
        image, height, width = self._high_res(high_res)
        image = apply_to_columns(self._pieces("reduce", width, image), image)
        return apply_to_rows(self._pieces("reduce", height, image), image).to(high_res.dtype)

    def pseudo_inverse(self, low_res: Tensor) -> Tensor:
        """A+ y, (B, C, s h, s w): of all images that reduce to y exactly, the one of least sum of squares.

        Raises:
            ValueError: the blur is too wide for A to be inverted; or as in the class.
        """
        image = self._wide(low_res)
        height, width = image.shape[-2:]
        image = apply_to_rows(self._pieces("invert", height, image), image)
        return apply_to_columns(self._pieces("invert", width, image), image).to(low_res.dtype)

    def null_space(self, high_res: Tensor) -> Tensor:
        """x - A+ A x: the part of the image that the reduction removes; it reduces to zero."""
        wide = self._wide(high_res)
        return (wide - self.pseudo_inverse(self.reduce(wide))).to(high_res.dtype)

    def project(self, high_res: Tensor, low_res: Tensor) -> Tensor:
        """x + A+ (y - A x): the image nearest to x that reduces to y exactly. It may leave [0, 1]."""
        wide, target = self._wide(high_res), self._wide(low_res)
        reduced = self.reduce(wide)
        if reduced.shape != target.shape:
            raise ValueError(
                f"low_res {tuple(target.shape)} is not the reduction of high_res {tuple(wide.shape)}, which is "
                f"{tuple(reduced.shape)} at scale {self.scale}."
            )
        return (wide + self.pseudo_inverse(target - reduced)).to(high_res.dtype)

    def project_within(
        self, high_res: Tensor, low_res: Tensor, *, low: float = 0.0, high: float = 1.0, iterations: int = 20
    ) -> Tensor:
        """An image in [low, high] near x that reduces to y as nearly as `iterations` of `project` and clipping reach.

        Clipping undoes the projection where x + A+ (y - A x) leaves the range; turns of both approach an image that
        satisfies both (alternating projections onto convex sets), if there is one. Where y itself is out of reach, a
        gap stays: measure it with `reduce`.

        Raises:
            ValueError: `iterations` below 1, or as in `project`.
        """
        if iterations < 1:
            raise ValueError(f"iterations={iterations} must be at least 1.")
        image, target = self._wide(high_res), self._wide(low_res)
        for _ in range(iterations):
            image = self.project(image, target).clamp(low, high)
        return image.to(high_res.dtype)

    def _pieces(self, kind: str, size: int, image: Tensor):
        return axis_pieces(kind, self.scale, self.blur, int(size), image.device, image.dtype)

    def _high_res(self, image: Tensor) -> tuple[Tensor, int, int]:
        """The image in float64, and the height and width that it reduces to."""
        height, width = image.shape[-2:] if image.ndim == 4 else (0, 0)
        if image.ndim == 4 and (height % self.scale or width % self.scale):
            multiples = height // self.scale * self.scale, width // self.scale * self.scale
            raise ValueError(
                f"image of {height} x {width} pixels is no multiple of scale={self.scale}: crop it to "
                f"{multiples[0]} x {multiples[1]}, or pad it."
            )
        return self._wide(image), height // self.scale, width // self.scale

    @staticmethod
    def _wide(image: Tensor) -> Tensor:
        if image.ndim != 4 or not image.is_floating_point() or 0 in image.shape[-2:]:
            raise ValueError(
                f"image {tuple(image.shape)} of {image.dtype} must be floating (B, C, H, W): divide an 8-bit image by "
                "255 first."
            )
        return as_wide(image)
