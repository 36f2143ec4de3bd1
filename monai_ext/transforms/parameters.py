"""Parameters of an augmentation, drawn apart from their use: readable values, and the matrices made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from monai_ext.transforms import colour, spatial

__all__ = ["AugmentParameters", "compile_parameters"]

AFFINE = ("rotate", "scale", "shear", "translate")
COLOUR = ("brightness", "contrast", "saturation", "hue")  # in the order of their use


@dataclass(frozen=True)
class AugmentParameters:
    """Parameters of `count` images: `values`, readable, on the CPU, and `tensors`, which `apply` uses.

    Attributes:
        slicewise: nothing of volumes moves between slices but along their own axis, so that they can be warped slice by
            slice.
        whole_slices: and along it by whole slices, by being mirrored.
    """

    count: int
    values: dict[str, Tensor]
    tensors: dict[str, Tensor]
    slicewise: bool = False
    whole_slices: bool = False

    def __len__(self) -> int:
        return self.count

    def to(self, device: torch.device | str) -> AugmentParameters:
        """The same with `tensors` on `device`."""
        return replace(self, tensors={k: v.to(device, non_blocking=True) for k, v in self.tensors.items()})

    def split(self, sizes: int | list[int]) -> list[AugmentParameters]:
        """Those of consecutive batches, as `torch.split` has them: views, no copy."""
        counts = [len(part) for part in torch.empty(self.count, 0).split(sizes)]
        parts = zip(counts, _split(self.values, counts), _split(self.tensors, counts), strict=True)
        return [AugmentParameters(*part, self.slicewise, self.whole_slices) for part in parts]


def _split(group: dict[str, Tensor], counts: list[int]) -> list[dict[str, Tensor]]:
    columns = {name: tensor.split(counts) for name, tensor in group.items()}
    return [{name: column[i] for name, column in columns.items()} for i in range(len(counts))]


def compile_parameters(
    count: int, values: Mapping[str, Tensor], *, spatial_dims: int = 2, blur_radius: int | None = None
) -> AugmentParameters:
    """Drawn (or chosen) values of `count` images as matrices and kernels, on the CPU.

    Args:
        count: number of images, n.
        values: any of flip (n, d) bool, rot90 (n,), rotate in degrees (n, 1 or 3), scale (n,) or (n, d), shear in
            degrees (n, d (d - 1)), translate (n, d) in fractions, elastic (n, d, cells + 3, ...), brightness, contrast,
            saturation, hue, gamma, blur, noise with noise_offset (n,). Axes in array order. What is missing is neutral.
        spatial_dims: d, 2 or 3.
        blur_radius: half width of the blurring kernels in pixels; None: three times the largest blur.

    Raises:
        ValueError: a value does not have one row for each image.
    """
    wrong = [name for name, value in values.items() if len(value) != count]
    if wrong:
        raise ValueError(f"values of {', '.join(wrong)} are not for {count} images: give one row for each.")
    tensors = _compile_moves(count, values, spatial_dims)
    if values.keys() & set(COLOUR):
        neutral = torch.ones(count)
        factors = [values.get(name, neutral if name != "hue" else 0 * neutral) for name in COLOUR]
        tensors["linear"], pivot = colour.colour_matrix(*factors)
        if "contrast" in values:
            tensors["pivot"] = pivot
    if "blur" in values:
        radius = blur_radius or math.ceil(3 * float(values["blur"].max()))
        tensors["blur"] = colour.gaussian_kernels(values["blur"], max(1, radius))
    tensors |= {name: values[name] for name in ("gamma", "noise", "noise_offset") if name in values}
    slicewise = spatial_dims == 3 and "matrix" in tensors and not values.keys() & {"elastic", "shear"}
    slicewise = slicewise and not ("rotate" in values and bool(values["rotate"][:, :2].any()))
    shifted = "translate" in values and bool(values["translate"][:, -1].any())
    return AugmentParameters(
        count, dict(values), tensors, slicewise, slicewise and "scale" not in values and not shifted
    )


def _compile_moves(count: int, values: Mapping[str, Tensor], dims: int) -> dict[str, Tensor]:
    """The matrix of every image, and the exact index where there are only flips and turns."""
    if not values.keys() & {"flip", "rot90", "elastic", *AFFINE}:
        return {}
    flips = values.get("flip", torch.zeros(count, dims, dtype=torch.bool)).flip(1)
    dihedral = spatial.dihedral_matrix(flips, values.get("rot90", torch.zeros(count, dtype=torch.long)))
    zeros = torch.zeros(count, 1)
    rotation = spatial.rotation_matrix(values.get("rotate", zeros.expand(-1, 2 * dims - 3)).double().deg2rad())
    shear = spatial.shear_matrix(values.get("shear", zeros.expand(-1, dims * (dims - 1))).double().deg2rad())
    scale = values.get("scale", torch.ones(count)).double()
    zoom = scale[:, None, None] if scale.ndim == 1 else scale.flip(1)[:, None]  # (n, 1, 1), or (n, 1, d)
    shift = values.get("translate", zeros.expand(-1, dims)).double().flip(1)
    # Flips and turns come first and are orthogonal: back to the source they come last, transposed.
    tensors = {"matrix": (dihedral.mT @ spatial.source_matrix(rotation @ shear * zoom, shift)).float()}
    if "elastic" in values:
        tensors["control"] = values["elastic"].flip(1)
    if not values.keys() & {"elastic", *AFFINE}:
        tensors["dihedral"] = spatial.DihedralIndex.compile(dihedral)
    return tensors
