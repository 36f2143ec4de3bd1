"""Random augmentation of whole batches on the device that holds them.

Parameters of any number of images are drawn on the CPU, turned into one matrix for each image, and applied to a batch:
three steps, each of which can be replayed and tested alone. Applying them never waits for the device, and its number of
kernels does not depend on the size of the batch.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from monai_ext.transforms import colour, opencv_warp, spatial
from monai_ext.transforms.augmentations import ORDER, Augmentation, RandomBlur
from monai_ext.transforms.parameters import AugmentParameters, compile_parameters
from monai_ext.transforms.warping import Warp

__all__ = ["FULL_SCALE", "BatchAugment"]

KEPT_CONSTANTS = 256
FEWEST_LEVELS = 64  # of an image of 8 bits, to be rounded to them
FULL_SCALE = {torch.uint8: 255.0, torch.uint16: 65535.0, torch.bool: 1.0}


class BatchAugment:
    """Random augmentation of a batch, with parameters drawn for each image, and normalisation.

    Takes a mapping with an image (B, C, *S) of any real type and, optionally, a label (B, R, *S); returns the mapping
    with both as float32, everything else untouched. The image is sampled linearly, an integer label at the nearest
    pixel of the same grid (its values are kept), a floating-point one linearly (soft labels). Volumes are (H, W, D).

    Parts are applied in a fixed order, whatever that of the list: flips and quarter turns, affine and elastic warps as
    a single resampling; blur; colour; gamma; noise; mean and std. Without parts the image is scaled to [0, 1] and
    normalised, for validation.

    >>> from monai_ext.transforms import RandomAffine, RandomFlip
    >>> augment = BatchAugment([RandomFlip(), RandomAffine(rotate=180, scale=(0.8, 1.25))], mean=0.5, std=0.25)
    >>> batch = {"image": torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "label": torch.ones(2, 1, 8, 8)}
    >>> augment(batch)["image"].unique()
    tensor([-2.])

    Args:
        parts: each kind of `Augmentation` once at most.
        spatial_size: *S of the result; None keeps the size. May be set between epochs (progressive resizing). The
            field of view stays; images are shrunk with an antialiasing filter, before the warp.
        inner_size: *S of the result, the middle of what is given at the same pixel size: larger crops have real pixels
            to show where a warp reaches beyond it. Not together with spatial_size.
        mean, std: normalisation on the [0, 1] scale, one number or one for each channel.
        intensity_range: values that become 0 and 1; None: (0, 255) for uint8, (0, 65535) for uint16, (0, 1) for floats.
        padding_mode: "reflection", "border" or "zeros", beyond the border of image and label.
        channels_last: return the image in `torch.channels_last` memory order.
        spatial_dims: 2 or 3; colour is for 2. Where a batch of volumes has "affine" (B, 4, 4), rotations are true ones
            in space, whatever the distance of slices; otherwise voxels are taken for cubes.
        label_key: where the label is in the mapping; a missing one is left out.
        opencv: warp uint8 pictures on a CPU by OpenCV, faster, to whole levels; None: where it is installed.

    Raises:
        ValueError: a part given twice, settings out of range or not for so many axes, or OpenCV wanted and missing.
    """

    def __init__(
        self,
        parts: Sequence[Augmentation] = (),
        *,
        spatial_size: Sequence[int] | None = None,
        inner_size: Sequence[int] | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        intensity_range: Sequence[float] | None = None,
        padding_mode: str = "reflection",
        channels_last: bool = False,
        spatial_dims: int = 2,
        label_key: str | None = "label",
        opencv: bool | None = None,
    ) -> None:
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims={spatial_dims} must be 2 or 3.")
        if padding_mode not in ("reflection", "border", "zeros"):
            raise ValueError(f"padding_mode={padding_mode!r} must be 'reflection', 'border' or 'zeros'.")
        if (mean is None) != (std is None):
            raise ValueError(f"mean={mean} and std={std} must be given together.")
        self.parts = _in_order(parts)
        for part in self.parts:
            part.draw(0, spatial_dims, torch.Generator())  # raises where a setting is not for so many axes
        if spatial_size and inner_size:
            raise ValueError(f"spatial_size={spatial_size} and inner_size={inner_size}: give one of them.")
        self.spatial_size, self.inner_size, self.spatial_dims = spatial_size, inner_size, spatial_dims
        self.padding_mode, self.intensity_range, self.mean, self.std = padding_mode, intensity_range, mean, std
        if channels_last:
            self.memory_format = torch.channels_last if spatial_dims == 2 else torch.channels_last_3d
        else:
            self.memory_format = torch.contiguous_format
        self.label_key = label_key
        if opencv and opencv_warp.opencv() is None:
            raise ValueError('opencv=True needs OpenCV: pip install "opencv-python-headless>=4.11".')
        self.opencv = opencv is not False and opencv_warp.opencv() is not None
        self._noise_bank = colour.NoiseBank()
        self._constants: dict[tuple, Any] = {}

    def __call__(self, batch: Mapping, generator: torch.Generator | None = None) -> dict:
        """`batch` augmented with parameters drawn from `generator` (of the CPU; None: torch's own)."""
        return self.apply(batch, self.draw(len(batch["image"]), generator))

    def draw(self, count: int, generator: torch.Generator | None = None) -> AugmentParameters:
        """Parameters of `count` images, an epoch of them at once if you like."""
        values: dict[str, Tensor] = {}
        for part in self.parts:
            values |= part.draw(count, self.spatial_dims, generator)
        return self.compile(count, values)

    def compile(self, count: int, values: Mapping[str, Tensor]) -> AugmentParameters:
        """Given values for `count` images in the form that `apply` takes, see `compile_parameters`."""
        radius = next((part.radius for part in self.parts if isinstance(part, RandomBlur)), None)
        return compile_parameters(count, values, spatial_dims=self.spatial_dims, blur_radius=radius)

    @torch.no_grad()
    def apply(self, batch: Mapping, parameters: AugmentParameters) -> dict:
        """`batch` augmented; the same parameters give equal tensors again.

        Raises:
            ValueError: shapes, channels or count do not fit.
        """
        image, label = batch["image"], batch.get(self.label_key)
        self._check(image, label, parameters)
        image = image.as_subclass(torch.Tensor)
        label = None if label is None else label.as_subclass(torch.Tensor)
        tensors = parameters.tensors
        affine = batch.get("affine") if self.spatial_dims == 3 else None
        if tensors and next(iter(tensors.values())).device != image.device:
            tensors = parameters.to(image.device).tensors
        with torch.autocast(image.device.type, enabled=False):
            moved, label = self._move(image, label, tensors, parameters, affine)
            # What follows works in place, and must not reach the caller's tensor.
            pixels = self._recolour(moved.to(torch.float32, copy=moved is image), image.dtype, tensors)
        result = dict(batch)
        result["image"] = pixels.to(torch.float32).contiguous(memory_format=self.memory_format)
        if label is not None:
            result[self.label_key] = label.to(torch.float32).contiguous()
        return result

    def _check(self, image: Tensor, label: Tensor | None, parameters: AugmentParameters) -> None:
        for name, tensor in (("image", image), (self.label_key, label)):
            if tensor is not None and (tensor.ndim != self.spatial_dims + 2 or len(tensor) != len(parameters)):
                axes = "(B, C, H, W)" if self.spatial_dims == 2 else "(B, C, H, W, D)"
                raise ValueError(
                    f"{name} has shape {tuple(tensor.shape)}: expected {axes}, B={len(parameters)} as drawn."
                )
        if self.inner_size and any(cut > side for cut, side in zip(self.inner_size, image.shape[2:], strict=True)):
            raise ValueError(f"inner_size={self.inner_size} is larger than the images of {tuple(image.shape[2:])}.")
        if "linear" in parameters.tensors and image.shape[1] != 3:
            raise ValueError(f"image has {image.shape[1]} channels: RandomColour needs 3, RandomGamma any.")

    def _move(
        self,
        image: Tensor,
        label: Tensor | None,
        tensors: Mapping[str, Tensor],
        parameters: AugmentParameters,
        affine: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Image (any type) and label where the parameters move them to, at the final size."""
        size = tuple(image.shape[2:])
        exact = "dihedral" in tensors and (size[0] == size[1] or "rot90" not in parameters.values)
        if "matrix" not in tensors or exact:
            if exact:
                image, label = self._flip(image, label, tensors["dihedral"])
            fitted = self._fitted(image, spatial.resize)
            return fitted, None if label is None else self._fitted(label, spatial.resize_labels)
        warp = Warp(
            tensors["matrix"],
            control=tensors.get("control"),
            voxels=None if affine is None else affine[:, :3, :3].norm(dim=1).flip(1).float(),  # along (x, y, z)
            size=size,
            target=tuple(self.inner_size or self.spatial_size or size),
            cut=self.inner_size is not None,
            padding_mode=self.padding_mode,
            by_opencv=self._by_opencv(image.device),
            kept=self._constant,
        )
        move: Callable[..., Tensor] = warp
        if parameters.slicewise and image.device.type == "cpu":  # a GPU is as fast at once, with fewer operations
            move = functools.partial(warp.slice_by_slice, whole=parameters.whole_slices)
        return move(image, soft=True), None if label is None else move(label, soft=label.is_floating_point())

    def _by_opencv(self, device: torch.device) -> bool:
        """Whether OpenCV warps pictures of 8 bits: on a CPU, where whole levels are fine enough."""
        if not self.opencv or device.type != "cpu":
            return False
        low, high = self._intensities(torch.uint8)
        return high - low >= FEWEST_LEVELS

    def _fitted(self, x: Tensor, resize: Callable[[Tensor, Sequence[int]], Tensor]) -> Tensor:
        """`x` without a warp at the final size."""
        if self.inner_size is None:
            return resize(x, self.spatial_size) if self.spatial_size else x
        starts = [(side - cut) // 2 for side, cut in zip(x.shape[2:], self.inner_size, strict=True)]
        for axis, (start, cut) in enumerate(zip(starts, self.inner_size, strict=True)):
            x = x.narrow(2 + axis, start, cut)
        return x

    def _flip(self, image: Tensor, label: Tensor | None, dihedral: Tensor) -> tuple[Tensor, Tensor | None]:
        index = self._index(image, dihedral)
        flipped = spatial.take_pixels(image, index)
        if label is None:
            return flipped, None
        if label.shape[2:] != image.shape[2:]:  # a label may be kept at another size
            index = self._index(label, dihedral)
        return flipped, spatial.take_pixels(label, index)

    def _index(self, x: Tensor, dihedral: Tensor) -> Tensor:
        size, device = tuple(x.shape[2:]), dihedral.device
        return self._constant(("index", size, device), lambda: spatial.DihedralIndex(size, device))(dihedral)

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
            low, high = self.intensity_range
            return low, high
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
        factor, shift = (v.expand(channels).view(shape).to(device, torch.float32) for v in (unit / std, -mean / std))
        return factor, shift

    def _constant(self, key: tuple, build: Callable[[], Any]) -> Any:
        """Tensors that depend on sizes alone, kept so that batches need not make them again."""
        if key not in self._constants:
            if len(self._constants) >= KEPT_CONSTANTS:  # data of very many sizes
                self._constants.clear()
            self._constants[key] = build()
        return self._constants[key]


def _in_order(parts: Sequence[Augmentation]) -> list[Augmentation]:
    for kind, count in Counter(map(type, parts)).items():
        if kind not in ORDER:
            raise ValueError(f"{kind.__name__} is no part: choose among {', '.join(part.__name__ for part in ORDER)}.")
        if count > 1:
            raise ValueError(
                f"{kind.__name__} is given {count} times: once is enough, parameters are drawn for each image."
            )
    return sorted(parts, key=lambda part: ORDER.index(type(part)))
