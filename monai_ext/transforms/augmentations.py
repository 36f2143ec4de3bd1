"""Random changes of images, the parts of `BatchAugment`: each draws parameters, which are then applied together.

None or 0 switches a parameter off. A number v stands for the range named with it; a pair is that range itself. `prob`
is the chance that an image is changed; the parameters of the others are neutral. Values for each axis are in array
order, (H, W) or (H, W, D).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from monai_ext.transforms import colour, spatial
from monai_ext.transforms.ranges import (
    log_uniform,
    per_axis,
    positive_range,
    probability,
    ratio_range,
    ratio_ranges,
    symmetric_range,
    symmetric_ranges,
    uniform,
)

__all__ = [
    "ORDER",
    "Augmentation",
    "RandomAffine",
    "RandomBlur",
    "RandomColour",
    "RandomElastic",
    "RandomFlip",
    "RandomGamma",
    "RandomNoise",
    "RandomQuarterTurn",
]


class Augmentation:
    """One kind of random change."""

    def draw(self, count: int, spatial_dims: int, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Values (count, ...) of the parameters that are on, on the CPU, by the names of `compile_parameters`.

        Raises:
            ValueError: the settings do not fit so many axes.
        """
        raise NotImplementedError


class RandomFlip(Augmentation):
    """Mirrors axes; alone or with quarter turns it moves pixels exactly.

    Args:
        prob: for each axis, one number or one for each.
    """

    def __init__(self, prob: float | Sequence[float] = 0.5):
        for value in prob if isinstance(prob, Sequence) else [prob]:
            probability("prob", value)
        self.prob = prob

    def draw(self, count: int, spatial_dims: int, generator: torch.Generator | None) -> dict[str, Tensor]:
        prob = per_axis("prob", self.prob, spatial_dims)
        if not any(prob):
            return {}
        return {"flip": torch.rand(count, spatial_dims, generator=generator) < torch.tensor(prob)}


class RandomQuarterTurn(Augmentation):
    """1, 2 or 3 quarter turns of the axes H and W, equally likely.

    Images that are not square are turned about their centre and padded.

    Args:
        prob: 0.75 makes all four orientations equally likely.
    """

    def __init__(self, prob: float = 0.75):
        self.prob = probability("prob", prob)

    def draw(self, count: int, spatial_dims: int, generator: torch.Generator | None) -> dict[str, Tensor]:
        if not self.prob:
            return {}
        where = _chosen(count, self.prob, generator)
        return {"rot90": _only(where, torch.randint(1, 4, (count,), generator=generator), 0)}


class RandomAffine(Augmentation):
    """Shift, zoom, shear and rotation, in this order.

    Args:
        rotate: degrees, uniform in (-v, v); a true rotation for every aspect ratio. In 3-D an angle about each axis, of
            one range or of three, for H, W and D; `(0, 0, 30)` moves nothing between slices, for few thick ones.
        scale: pair of zoom factors, log-uniform; above 1 enlarges. A pair for each axis draws a factor for each.
        shear: degrees, uniform in (-v, v), v < 45, for each ordered pair of axes.
        translate: fraction of the axis, uniform in (-v, v), one v or one for each axis.
    """

    def __init__(
        self,
        rotate: float | Sequence[float] | Sequence[float | Sequence[float] | None] | None = None,
        scale: Sequence[float] | Sequence[Sequence[float]] | None = None,
        shear: float | Sequence[float] | None = None,
        translate: float | Sequence[float] | None = None,
        *,
        prob: float = 1.0,
    ):
        self.rotate = symmetric_ranges("rotate", rotate)
        self.scale = scale
        self.shear = symmetric_range("shear", shear)
        if self.shear and max(map(abs, self.shear)) >= 45:
            raise ValueError(f"shear={shear} must stay below 45 degrees, where opposite shears cancel the image.")
        self.translate = translate or None
        self.prob = probability("prob", prob)

    def draw(self, count: int, spatial_dims: int, generator: torch.Generator | None) -> dict[str, Tensor]:
        zooms = ratio_ranges("scale", self.scale, spatial_dims)
        shifts = per_axis("translate", self.translate, spatial_dims) if self.translate else None
        if not any((self.rotate, zooms, self.shear, shifts)):
            return {}
        where, values = _chosen(count, self.prob, generator), {}
        if self.rotate:
            axes = 1 if spatial_dims == 2 else 3
            if len(self.rotate) not in (1, axes):
                raise ValueError(f"rotate has {len(self.rotate)} ranges: in 2-D give one, (low, high) or a number.")
            if len(self.rotate) == 1 and self.rotate[0]:
                angles = uniform((count, axes), *self.rotate[0], generator)
            else:
                columns = [uniform((count, 1), *(limits or (0.0, 0.0)), generator) for limits in self.rotate]
                angles = torch.cat(columns, dim=1)
            values["rotate"] = _only(where, angles, 0.0)
        if zooms:
            factors = torch.stack([log_uniform((count,), *limits, generator) for limits in zooms], dim=1)
            values["scale"] = _only(where, factors if len(zooms) > 1 else factors[:, 0], 1.0)
        if self.shear:
            angles = uniform((count, spatial_dims * (spatial_dims - 1)), *self.shear, generator)
            values["shear"] = _only(where, angles, 0.0)
        if shifts:
            shares = uniform((count, spatial_dims), -1, 1, generator) * torch.tensor(shifts)
            values["translate"] = _only(where, shares, 0.0)
        return values


class RandomElastic(Augmentation):
    """Elastic warp by a cubic B-spline, which never folds the image.

    Args:
        displacement: of each control point along each axis, uniform in (-v, v) of the image's shorter side; v cells
            < 0.48 (0.40 in 3-D).
        cells: of the spline along each axis.
    """

    def __init__(self, displacement: float | None, cells: int = 4, *, prob: float = 1.0):
        self.displacement, self.cells = float(displacement or 0), int(cells)
        self.prob = probability("prob", prob)

    def draw(self, count: int, spatial_dims: int, generator: torch.Generator | None) -> dict[str, Tensor]:
        if not self.displacement:
            return {}
        limit = spatial.INJECTIVE_DISPLACEMENT[spatial_dims]
        if self.displacement < 0 or self.cells < 1 or self.displacement * self.cells >= limit:
            raise ValueError(
                f"displacement={self.displacement} with cells={self.cells} can fold the image: choose cells >= 1 and "
                f"0 <= displacement < {limit} / cells = {limit / max(self.cells, 1):.3f}."
            )
        where = _chosen(count, self.prob, generator)
        shape = count, spatial_dims, *[self.cells + 3] * spatial_dims
        return {"elastic": _only(where, uniform(shape, -self.displacement, self.displacement, generator), 0.0)}


class RandomColour(Augmentation):
    """Brightness, contrast, saturation and hue of images of three channels, in this order, then clamped to [0, 1].

    Args:
        brightness: factor, uniform in (1 - v, 1 + v), never below 0.
        contrast: factor about the image's mean grey, uniform in (1 - v, 1 + v), never below 0.
        saturation: factor, uniform in (1 - v, 1 + v), never below 0.
        hue: turns of the chroma plane (YIQ), uniform in (-v, v), v <= 0.5.
    """

    def __init__(
        self,
        brightness: float | Sequence[float] | None = None,
        contrast: float | Sequence[float] | None = None,
        saturation: float | Sequence[float] | None = None,
        hue: float | Sequence[float] | None = None,
        *,
        prob: float = 1.0,
    ):
        factors = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        self.ranges = {name: symmetric_range(name, value, centre=1.0, lowest=0.0) for name, value in factors.items()}
        self.ranges["hue"] = turns = symmetric_range("hue", hue)
        if turns and max(map(abs, turns)) > 0.5:
            raise ValueError(f"hue={hue} must stay within half a turn, [-0.5, 0.5].")
        self.prob = probability("prob", prob)

    def draw(self, count: int, spatial_dims: int, generator: torch.Generator | None) -> dict[str, Tensor]:
        ranges = {name: limits for name, limits in self.ranges.items() if limits}
        if not ranges:
            return {}
        _only_in_2d(self, spatial_dims)
        where = _chosen(count, self.prob, generator)
        return {
            name: _only(where, uniform((count,), *limits, generator), 0.0 if name == "hue" else 1.0)
            for name, limits in ranges.items()
        }


class RandomGamma(Augmentation):
    """x -> x^gamma on [0, 1].

    Args:
        gamma: pair of exponents, log-uniform.
    """

    def __init__(self, gamma: Sequence[float] | None, *, prob: float = 1.0):
        self.gamma, self.prob = ratio_range("gamma", gamma), probability("prob", prob)

    def draw(self, count: int, spatial_dims: int, generator: torch.Generator | None) -> dict[str, Tensor]:
        if not self.gamma:
            return {}
        where = _chosen(count, self.prob, generator)
        return {"gamma": _only(where, log_uniform((count,), *self.gamma, generator), 1.0)}


class RandomBlur(Augmentation):
    """Gaussian blur.

    Args:
        sigma: standard deviation in pixels of the result, uniform in (0, v).
    """

    def __init__(self, sigma: float | Sequence[float] | None, *, prob: float = 1.0):
        self.sigma, self.prob = positive_range("sigma", sigma), probability("prob", prob)

    @property
    def radius(self) -> int | None:
        """Half width of the kernel in pixels."""
        return math.ceil(3 * self.sigma[1]) if self.sigma else None

    def draw(self, count: int, spatial_dims: int, generator: torch.Generator | None) -> dict[str, Tensor]:
        if not self.sigma:
            return {}
        where = _chosen(count, self.prob, generator)
        return {"blur": _only(where, uniform((count,), *self.sigma, generator), 0.0)}


class RandomNoise(Augmentation):
    """White Gaussian noise, not clamped.

    Args:
        sigma: standard deviation on the [0, 1] scale, uniform in (0, v).
    """

    def __init__(self, sigma: float | Sequence[float] | None, *, prob: float = 1.0):
        self.sigma, self.prob = positive_range("sigma", sigma), probability("prob", prob)

    def draw(self, count: int, spatial_dims: int, generator: torch.Generator | None) -> dict[str, Tensor]:
        if not self.sigma:
            return {}
        where = _chosen(count, self.prob, generator)
        sigma = _only(where, uniform((count,), *self.sigma, generator), 0.0)
        return {
            "noise": sigma,
            "noise_offset": torch.randint(colour.NoiseBank.OFFSETS, (count,), generator=generator),
        }


# Parameters are drawn in this order, whatever that of a list of parts, so that a seed gives the same augmentation.
ORDER = (
    RandomFlip,
    RandomQuarterTurn,
    RandomAffine,
    RandomElastic,
    RandomColour,
    RandomGamma,
    RandomBlur,
    RandomNoise,
)


def _chosen(count: int, prob: float, generator: torch.Generator | None) -> Tensor:
    """Which images are changed, (count,) of bool."""
    return torch.rand(count, generator=generator) < prob


def _only(where: Tensor, drawn: Tensor, neutral: float) -> Tensor:
    return torch.where(where.view(-1, *[1] * (drawn.ndim - 1)), drawn, neutral)


def _only_in_2d(part: Augmentation, spatial_dims: int) -> None:
    if spatial_dims != 2:
        raise ValueError(f"{type(part).__name__} needs spatial_dims=2.")
