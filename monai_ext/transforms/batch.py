"""Random augmentation of whole batches on the device that holds them.

Three steps, each of which can be replayed and tested alone: `sample` draws the numbers of any count of samples on the
CPU, `compile` turns them into one matrix a sample, `apply` uses those on a batch. Nothing in `apply` waits for the
device, and its number of kernels does not depend on the size of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_ext.transforms import colour, spatial
from monai_ext.transforms.parameters import AugmentParameters, compile_parameters
from monai_ext.transforms.ranges import (
    log_uniform,
    per_axis,
    positive_range,
    probability,
    ratio_range,
    ratio_ranges,
    symmetric_range,
    uniform,
)

T = TypeVar("T")
KEPT_CONSTANTS = 256
FULL_SCALE = {torch.uint8: 255.0, torch.uint16: 65535.0, torch.bool: 1.0}


class BatchAugment:
    """Random flips, turns, affine and elastic warps, colour, gamma, blur and noise for a batch, drawn for each sample.

    Takes a mapping with an image (B, C, *S) of any real type and, optionally, a label (B, R, *S); returns the mapping
    with the image as `dtype` and the label as float32, everything else untouched. The image is sampled linearly, an
    integer label at the nearest pixel of the same grid (its values are kept), a floating-point one linearly (soft
    labels). Flips and quarter turns alone move pixels exactly. Order: flips and turns, shift, zoom, shear, rotation,
    elastic; blur; brightness, contrast, saturation, hue, clamp to [0, 1]; gamma; noise; mean and std. With everything
    off it scales to [0, 1] and normalises: the same class serves validation.

    None or 0 switches a parameter off. A number v stands for the range named with it; a pair is that range itself.
    Anything with a probability keeps its neutral value where it is not chosen.

    Args:
        spatial_size: *S of the result; None keeps the size. May be set between epochs (progressive resizing). The
            field of view stays; images are shrunk with an antialiasing filter, before the warp.
        flip_prob: chance of mirroring each axis, one number or one for each axis in array order (H, W).
        rot90_prob: chance of 1, 2 or 3 quarter turns, equally likely (0.75 gives all four orientations alike). Images
            that are not square are turned about their centre and padded.
        rotate: degrees, uniform in (-v, v); a true rotation for every aspect ratio. In 3-D one angle for each plane.
        scale: pair of zoom factors, log-uniform; above 1 enlarges. A pair for each axis in array order draws one factor
            for each, so that shapes are stretched as well.
        shear: degrees, uniform in (-v, v), for each ordered pair of axes.
        translate: fraction of the axis, uniform in (-v, v), one v or one for each axis in array order; before the zoom.
        affine_prob: chance of rotate, scale, shear and translate together.
        elastic: pair (v, cells): control points of a cubic B-spline with `cells` cells along each axis move by uniform
            (-v, v) of the shorter side along each axis; v cells < 0.48 (0.40 in 3-D), or the image could fold.
        elastic_prob: chance of elastic.
        brightness: factor, uniform in (1 - v, 1 + v), never below 0.
        contrast: factor about the image's mean grey, uniform in (1 - v, 1 + v), never below 0.
        saturation: factor, uniform in (1 - v, 1 + v), never below 0.
        hue: turns of the chroma plane (YIQ), uniform in (-v, v), v <= 0.5.
        colour_prob: chance of brightness, contrast, saturation and hue together; these need three channels.
        gamma: pair of exponents, log-uniform, on [0, 1].
        gamma_prob: chance of gamma.
        blur: standard deviation of a Gaussian in pixels of the result, uniform in (0, v).
        blur_prob: chance of blur.
        noise: standard deviation of white Gaussian noise on the [0, 1] scale, uniform in (0, v); not clamped.
        noise_prob: chance of noise.
        padding_mode: "reflection", "border" or "zeros", beyond the border of image and label.
        intensity_range: values that become 0 and 1; None: (0, 255) for uint8, (0, 65535) for uint16, (0, 1) for floats.
        mean, std: normalisation on the [0, 1] scale, one number or one for each channel.
        dtype: of the returned image.
        channels_last: return the image in `torch.channels_last` memory order.
        spatial_dims: 2 or 3; blur and the colour parameters are for 2.
        image_key, label_key: where they are in the mapping; a missing label is left out.
    """

    def __init__(
        self,
        spatial_size: Sequence[int] | None = None,
        *,
        flip_prob: float | Sequence[float] = 0.0,
        rot90_prob: float = 0.0,
        rotate: float | Sequence[float] | None = None,
        scale: Sequence[float] | Sequence[Sequence[float]] | None = None,
        shear: float | Sequence[float] | None = None,
        translate: float | Sequence[float] | None = None,
        affine_prob: float = 1.0,
        elastic: tuple[float, int] | None = None,
        elastic_prob: float = 1.0,
        brightness: float | Sequence[float] | None = None,
        contrast: float | Sequence[float] | None = None,
        saturation: float | Sequence[float] | None = None,
        hue: float | Sequence[float] | None = None,
        colour_prob: float = 1.0,
        gamma: Sequence[float] | None = None,
        gamma_prob: float = 1.0,
        blur: float | Sequence[float] | None = None,
        blur_prob: float = 1.0,
        noise: float | Sequence[float] | None = None,
        noise_prob: float = 1.0,
        padding_mode: str = "reflection",
        intensity_range: Sequence[float] | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
        spatial_dims: int = 2,
        image_key: str = "image",
        label_key: str | None = "label",
    ) -> None:
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims={spatial_dims} must be 2 or 3.")
        if padding_mode not in ("reflection", "border", "zeros"):
            raise ValueError(f"padding_mode={padding_mode!r} must be 'reflection', 'border' or 'zeros'.")
        self.spatial_size, self.spatial_dims = spatial_size, spatial_dims
        self.flip_prob = tuple(probability("flip_prob", p) for p in per_axis("flip_prob", flip_prob, spatial_dims))
        self.rot90_prob = probability("rot90_prob", rot90_prob)
        self.rotate = symmetric_range("rotate", rotate)
        self.scale = ratio_ranges("scale", scale, spatial_dims)
        self.shear = symmetric_range("shear", shear)
        if self.shear and max(map(abs, self.shear)) >= 45:
            raise ValueError(f"shear={shear} must stay below 45 degrees, where opposite shears cancel the image.")
        self.translate = None if not translate else per_axis("translate", translate, spatial_dims)
        self.affine_prob = probability("affine_prob", affine_prob)
        self.elastic = _elastic(elastic, spatial_dims)
        self.elastic_prob = probability("elastic_prob", elastic_prob)
        factors = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        self.colour = {name: symmetric_range(name, value, centre=1.0, lowest=0.0) for name, value in factors.items()}
        self.colour["hue"] = symmetric_range("hue", hue)
        if self.colour["hue"] and max(map(abs, self.colour["hue"])) > 0.5:
            raise ValueError(f"hue={hue} must stay within half a turn, [-0.5, 0.5].")
        self.colour_prob = probability("colour_prob", colour_prob)
        self.gamma, self.gamma_prob = ratio_range("gamma", gamma), probability("gamma_prob", gamma_prob)
        self.blur, self.blur_prob = positive_range("blur", blur), probability("blur_prob", blur_prob)
        self.noise, self.noise_prob = positive_range("noise", noise), probability("noise_prob", noise_prob)
        if spatial_dims == 3 and (self.blur or any(self.colour.values())):
            raise ValueError("blur, brightness, contrast, saturation and hue need spatial_dims=2.")
        if (mean is None) != (std is None):
            raise ValueError(f"mean={mean} and std={std} must be given together.")
        self.padding_mode, self.intensity_range, self.mean, self.std = padding_mode, intensity_range, mean, std
        self.dtype = dtype
        if channels_last:
            self.memory_format = torch.channels_last if spatial_dims == 2 else torch.channels_last_3d
        else:
            self.memory_format = torch.contiguous_format
        self.image_key, self.label_key = image_key, label_key
        self._noise_bank = colour.NoiseBank()
        self._constants: dict[tuple, spatial.SamplingGrid | spatial.DihedralIndex | tuple[Tensor, Tensor]] = {}

    def __call__(self, batch: Mapping, generator: torch.Generator | None = None) -> dict:
        """`batch` augmented with numbers drawn from `generator` (of the CPU; None: torch's own)."""
        return self.apply(batch, self.draw(len(batch[self.image_key]), generator))

    def draw(self, count: int, generator: torch.Generator | None = None) -> AugmentParameters:
        """Everything random for `count` samples, an epoch of them at once if you like."""
        return self.compile(count, self.sample(count, generator))

    def sample(self, count: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """The random numbers alone, (count, ...) each, for the parameters that are on; axes in array order."""
        dims, values = self.spatial_dims, {}

        def chosen(prob: float) -> Tensor:
            return torch.rand(count, generator=generator) < prob

        def keep(name: str, drawn: Tensor, neutral: float, where: Tensor) -> None:
            values[name] = torch.where(where.view(-1, *[1] * (drawn.ndim - 1)), drawn, neutral)

        if any(self.flip_prob):
            values["flip"] = torch.rand(count, dims, generator=generator) < torch.tensor(self.flip_prob)
        if self.rot90_prob:
            where = chosen(self.rot90_prob)
            keep("rot90", torch.randint(1, 4, (count,), generator=generator), 0, where)
        if self.rotate or self.scale or self.shear or self.translate:
            where = chosen(self.affine_prob)
            if self.rotate:
                keep("rotate", uniform((count, 1 if dims == 2 else 3), *self.rotate, generator), 0.0, where)
            if self.scale:
                zooms = torch.stack([log_uniform((count,), *limits, generator) for limits in self.scale], dim=1)
                keep("scale", zooms if len(self.scale) > 1 else zooms[:, 0], 1.0, where)
            if self.shear:
                keep("shear", uniform((count, dims * (dims - 1)), *self.shear, generator), 0.0, where)
            if self.translate:
                keep("translate", uniform((count, dims), -1, 1, generator) * torch.tensor(self.translate), 0.0, where)
        if self.elastic:
            amplitude, cells = self.elastic
            where = chosen(self.elastic_prob)
            keep("elastic", uniform((count, dims, *[cells + 3] * dims), -amplitude, amplitude, generator), 0.0, where)
        if any(self.colour.values()):
            where = chosen(self.colour_prob)
            for name, limits in self.colour.items():
                if limits:
                    keep(name, uniform((count,), *limits, generator), 0.0 if name == "hue" else 1.0, where)
        if self.gamma:
            where = chosen(self.gamma_prob)
            keep("gamma", log_uniform((count,), *self.gamma, generator), 1.0, where)
        if self.blur:
            where = chosen(self.blur_prob)
            keep("blur", uniform((count,), *self.blur, generator), 0.0, where)
        if self.noise:
            where = chosen(self.noise_prob)
            keep("noise", uniform((count,), *self.noise, generator), 0.0, where)
            values["noise_offset"] = torch.randint(colour.NoiseBank.OFFSETS, (count,), generator=generator)
        return values

    def compile(self, count: int, values: Mapping[str, Tensor]) -> AugmentParameters:
        """Drawn (or chosen) numbers of `count` samples as what `apply` uses, see `compile_parameters`."""
        radius = math.ceil(3 * self.blur[1]) if self.blur else None
        return compile_parameters(count, values, spatial_dims=self.spatial_dims, blur_radius=radius)

    @torch.no_grad()
    def apply(self, batch: Mapping, draw: AugmentParameters) -> dict:
        """`batch` augmented by `draw`: the same draw gives equal tensors again.

        Raises:
            ValueError: shapes, channels or count do not fit; the sentence says which.
        """
        image, label = batch[self.image_key], batch.get(self.label_key)
        self._check(image, label, draw)
        image = image.as_subclass(torch.Tensor)
        label = None if label is None else label.as_subclass(torch.Tensor)
        tensors = draw.tensors
        if tensors and next(iter(tensors.values())).device != image.device:
            tensors = draw.to(image.device).tensors
        with torch.autocast(image.device.type, enabled=False):
            moved, label = self._move(image, label, tensors, turned="rot90" in draw.values)
            # What follows works in place, and must not reach the caller's tensor.
            pixels = self._recolour(moved.to(torch.float32, copy=moved is image), image.dtype, tensors)
        result = dict(batch)
        result[self.image_key] = pixels.to(self.dtype, memory_format=self.memory_format)
        if label is not None:
            result[self.label_key] = label.to(torch.float32)
        return result

    def _check(self, image: Tensor, label: Tensor | None, draw: AugmentParameters) -> None:
        for name, tensor in ((self.image_key, image), (self.label_key, label)):
            if tensor is not None and (tensor.ndim != self.spatial_dims + 2 or len(tensor) != len(draw)):
                axes = "(B, C, H, W)" if self.spatial_dims == 2 else "(B, C, D, H, W)"
                raise ValueError(f"{name} has shape {tuple(tensor.shape)}: expected {axes}, B={len(draw)} as drawn.")
        if "linear" in draw.tensors and image.shape[1] != 3:
            raise ValueError(
                f"{self.image_key} has {image.shape[1]} channels: brightness, contrast, saturation and hue need 3; "
                "leave them out, or use gamma and noise."
            )

    def _move(
        self, image: Tensor, label: Tensor | None, tensors: Mapping[str, Tensor], *, turned: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Image (any type) and label where the draw moves them to, at the final size."""
        size = tuple(image.shape[2:])
        target = tuple(self.spatial_size) if self.spatial_size else size
        if "matrix" not in tensors:
            return spatial.resize(image, target), None if label is None else spatial.resize_labels(label, target)
        if "dihedral" in tensors and (size[-1] == size[-2] or not turned):
            image, label = self._flip([image, label], tensors["dihedral"])
            return spatial.resize(image, target), None if label is None else spatial.resize_labels(label, target)
        control = tensors.get("control")
        cells = 0 if control is None else control.shape[-1] - 3
        key = ("grid", size, target, cells, image.device)
        grid = self._constant(key, lambda: spatial.SamplingGrid(size, target, cells, image.device))
        grid = grid(tensors["matrix"], control)
        shrunk = tuple(map(min, size, target))
        image = self._sample(spatial.resize(image, shrunk), grid, "bilinear")
        if label is not None:
            soft = label.is_floating_point()
            label = spatial.resize(label, shrunk) if soft else label
            label = self._sample(label, grid, "bilinear" if soft else "nearest")
        return image, label

    def _sample(self, x: Tensor, grid: Tensor, mode: str) -> Tensor:
        return F.grid_sample(x.to(torch.float32), grid, mode=mode, padding_mode=self.padding_mode, align_corners=False)

    def _flip(self, images: list[Tensor | None], dihedral: Tensor) -> list[Tensor | None]:
        indices: dict[tuple, Tensor] = {}
        for size in {tuple(x.shape[2:]): None for x in images if x is not None}:  # a label may be kept at another size
            key = ("index", size, dihedral.device)
            indices[size] = self._constant(key, lambda s=size: spatial.DihedralIndex(s, dihedral.device))(dihedral)
        return [None if x is None else spatial.take_pixels(x, indices[tuple(x.shape[2:])]) for x in images]

    def _recolour(self, x: Tensor, source: torch.dtype, tensors: Mapping[str, Tensor]) -> Tensor:
        """Blur, colour, gamma, noise and normalisation of float32 `x`, overwritten, that was of type `source`."""
        low, high = self._intensities(source)
        unit = 1.0 / (high - low)
        if low:
            x = x.sub_(low)
        if "blur" in tensors:
            x = colour.blur(x, tensors["blur"])
        if "linear" in tensors:
            pivot = tensors["pivot"] * unit if "pivot" in tensors else None
            x, unit = colour.recolour(x, tensors["linear"] * unit, pivot).clamp_(0, 1), 1.0
        elif unit != 1.0 and tensors.keys() & {"gamma", "noise"}:
            x, unit = x.mul_(unit), 1.0
        if "gamma" in tensors:
            x = colour.gamma_(x.clamp_(0, 1), tensors["gamma"])
        if "noise" in tensors:
            field = self._noise_bank(tensors["noise_offset"], x.shape)
            x = x.add_(field.mul_(tensors["noise"].view(-1, *[1] * (x.ndim - 1))))
        if self.mean is not None:
            key = ("normalise", x.shape[1], unit, x.device)
            factor, shift = self._constant(key, lambda: self._normalisation(x.shape[1], unit, x.device))
            return x.mul_(factor).add_(shift)
        return x if unit == 1.0 else x.mul_(unit)

    def _intensities(self, source: torch.dtype) -> tuple[float, float]:
        if self.intensity_range is not None:
            return self.intensity_range
        if source.is_floating_point:
            return 0.0, 1.0
        if source not in FULL_SCALE:
            raise ValueError(
                f"images of {source} have no natural scale: set intensity_range=(low, high), which become 0 and 1."
            )
        return 0.0, FULL_SCALE[source]

    def _normalisation(self, channels: int, unit: float, device: torch.device) -> tuple[Tensor, Tensor]:
        mean, std = (torch.as_tensor(v, dtype=torch.float64).flatten() for v in (self.mean, self.std))
        if {len(mean), len(std)} - {1, channels}:
            raise ValueError(f"mean={self.mean} and std={self.std} do not fit images of {channels} channels.")
        shape = (1, channels, *[1] * self.spatial_dims)
        return tuple(v.expand(channels).view(shape).to(device, torch.float32) for v in (unit / std, -mean / std))

    def _constant(self, key: tuple, build: Callable[[], T]) -> T:
        """Tensors that depend on sizes alone, kept so that batches need not make them again."""
        if key not in self._constants:
            if len(self._constants) >= KEPT_CONSTANTS:  # data of very many sizes
                self._constants.clear()
            self._constants[key] = build()
        return self._constants[key]


def _elastic(value: tuple[float, int] | None, dims: int) -> tuple[float, int] | None:
    if not value or not value[0]:
        return None
    amplitude, cells = float(value[0]), int(value[1])
    limit = spatial.INJECTIVE_DISPLACEMENT[dims]
    if amplitude < 0 or cells < 1 or amplitude * cells >= limit:
        raise ValueError(
            f"elastic={value} can fold the image: choose cells >= 1 and "
            f"0 <= amplitude < {limit} / cells = {limit / max(cells, 1):.3f}."
        )
    return amplitude, cells
