"""Predictions for cases with several raters as NIfTI, each in the geometry of its case.

Axes are written as they are read (`monai_ext.raster.nifti`): a prediction lies voxel on voxel over its image, whatever
the affine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch import Tensor

from monai_ext.data.raters.geometry import spatial_affine
from monai_ext.formulas.grids import restored
from monai_ext.formulas.regions import paste_region
from monai_ext.raster.images import ImageFileError
from monai_ext.raster.nifti import (
    READING_ERRORS,
    SAME_PLACE,
    open_nifti,
    plane_of,
    save_nifti,
    volume_of,
    without_singletons,
)
from monai_ext.runtime.errors import one_line
from monai_ext.storage.files import inside

__all__ = ["RaterWriter"]


class RaterWriter:
    """Writes predictions for items of `qubiq_items` as NIfTI, in the layout and the naming of the challenge.

    Everything goes to `output_dir/<case>/` (for slices of volumes `output_dir/<case>_z<index>/`) with size, affine and
    units of the case's own image. What was predicted at another size is restored, see `monai_ext.formulas.grids`, masks
    then with a threshold of one half; with a "roi" in the item it is brought to its place there, and a volume by an
    "affine" in the item. The mask of one slice is a volume of one slice at its place; `join_slices` makes one volume of
    the slices of a case.
    A file appears complete or not at all and replaces an earlier one of the same geometry only.

    Args:
        output_dir: one for each region, since cases of different regions share their names.
        channel_axis: of images with channels, see `DecodeRaters`.

    Raises (when writing):
        ValueError: shape or values do not fit, or a file of other size or affine is there already.
        ImageFileError: the image of the case cannot be read.
    """

    def __init__(self, output_dir: str | os.PathLike, *, channel_axis: int | None = None):
        self.output_dir = Path(output_dir)
        self.channel_axis = channel_axis

    def write_masks(self, item: Mapping, masks: Tensor, *, raters: Sequence[int] | None = None) -> list[Path]:
        """`taskTT_segRR.nii.gz` (uint8, 0/1) for each rater.

        Args:
            masks: (R, h, w) or (R, h, w, d), bool or integers 0/1, or probabilities in [0, 1], of which those above 0.5
                once restored are foreground.
            raters: their numbers RR; None: those of the item.
        """
        numbers = item.get("raters") if raters is None else raters
        if numbers is None:
            raise ValueError(f"case {item['case']} has no raters of its own: name those of the masks by raters=.")
        return self._write_each(item, masks, [f"seg{number:02d}" for number in numbers])

    def write_samples(self, item: Mapping, samples: Tensor) -> list[Path]:
        """`taskTT_sampleMM.nii.gz` (uint8, 0/1), MM = 01 ... M; samples (M, ...) as the masks of `write_masks`."""
        return self._write_each(item, samples, [f"sample{number + 1:02d}" for number in range(len(samples))])

    def write_probability(self, item: Mapping, probability: Tensor) -> Path:
        """`taskTT.nii.gz` (float32), the file that the challenge scores: the predicted share of raters.

        Args:
            probability: (h, w), (1, h, w) or (1, h, w, d), floating point in [0, 1].
        """
        name = f"task{item.get('task', 1):02d}.nii.gz"
        values = torch.as_tensor(probability).detach().cpu()
        values = values[None] if values.ndim == 2 else values
        if not values.is_floating_point() or values.ndim not in (3, 4) or len(values) != 1:
            raise ValueError(
                f"the probability for case {item['case']} is {values.dtype} {tuple(values.shape)}: expected floating "
                "point (h, w), (1, h, w) or (1, h, w, d)."
            )
        return self._write(item, _checked(values, item), [name], np.float32)[0]

    def join_slices(self, items: Sequence[Mapping], maps: Sequence[Tensor], *, masks: bool) -> Tensor:
        """Maps of a volume, (N, H, W, D), from all its slices in order and the maps (N, h, w) of each, on its grid.

        Args:
            masks: make masks of them, bool.
        """
        planes = []
        for item, own in zip(items, maps, strict=True):
            size = self._geometry(item, open_nifti(item["image"]), volume=False)[2]
            whole = self._whole(item, own, size, None)
            planes.append(whole > 0.5 if masks else whole)
        return torch.stack(planes, dim=-1)

    def _write_each(self, item: Mapping, masks: Tensor, kinds: Sequence[str]) -> list[Path]:
        masks = torch.as_tensor(masks).detach().cpu()
        if masks.ndim not in (3, 4) or len(masks) != len(kinds) or not kinds:
            raise ValueError(
                f"the masks for case {item['case']} are {tuple(masks.shape)}: expected ({len(kinds)}, h, w) or "
                f"({len(kinds)}, h, w, d), one for each of {', '.join(kinds)}."
            )
        names = [f"task{item.get('task', 1):02d}_{kind}.nii.gz" for kind in kinds]
        return self._write(item, _checked(masks, item), names, np.uint8)

    def _write(self, item: Mapping, maps: Tensor, names: Sequence[str], dtype: type) -> list[Path]:
        """maps (N, h, w[, d]), restored to the size of the case, as one file each."""
        source = open_nifti(item["image"])
        shape, affine, size = self._geometry(item, source, volume=maps.ndim == 4)
        header = source.header.copy()
        header.set_data_dtype(dtype)
        header["cal_min"] = header["cal_max"] = 0
        header.extensions.clear()
        folder = inside(self.output_dir, str(item["id"] if "slice" in item else item["case"]))
        paths = [folder / name for name in names]
        for path in paths:
            _refuse_another_case(path, shape, affine)
        for path, values in zip(paths, maps, strict=True):  # one after the other: those of a volume are large
            whole = self._whole(item, values[None], size, affine)
            stored: np.ndarray = (whole > 0.5 if dtype is np.uint8 else whole).numpy().astype(dtype).reshape(shape)
            try:
                image = type(source)(stored, affine, header)
            except READING_ERRORS as error:
                raise ImageFileError(
                    f"{item['image']} has a geometry that no file can have ({one_line(error)})."
                ) from error
            save_nifti(image, path)
        return paths

    def _whole(self, item: Mapping, maps: Tensor, size: tuple[int, ...], affine: np.ndarray | None) -> Tensor:
        """maps (N, ...) on the grid of the case."""
        if "roi" in item:
            return paste_region(maps, item["roi"], size)
        return restored(maps, size, affine=item.get("affine"), original=affine)

    def _geometry(
        self, item: Mapping, source: nib.Nifti1Image, *, volume: bool
    ) -> tuple[tuple[int, ...], np.ndarray, tuple[int, ...]]:
        """Shape and affine of the file to write, and the (H, W) or (H, W, D) of what lies in it."""
        shape, affine = source.shape, source.affine
        if "slice" in item:
            step = np.eye(4)
            step[2, 3] = item["slice"]
            return (*shape[:2], 1), affine @ step, (shape[0], shape[1])
        mask = next((path for path in item.get("label", ()) if path is not None), None)
        place = (volume_of if volume else plane_of)(
            without_singletons(shape),
            item["image"],
            mask_size=None if mask is None else without_singletons(open_nifti(mask).shape),
            channel_axis=self.channel_axis,
        )
        if place.channel_axis is None:
            return shape, affine, place.size
        return place.size, spatial_affine(affine, place.channel_axis), place.size


def _checked(maps: Tensor, item: Mapping) -> Tensor:
    """`maps` as integers or floating point, if their values are right."""
    maps = maps.to(torch.uint8) if maps.dtype == torch.bool else maps
    low, high = maps.aminmax()
    if not (low >= 0 and high <= 1):  # NaN is neither
        fractions = maps.is_floating_point()
        raise ValueError(
            f"the prediction for case {item['case']} holds values from {low.item():g} to {high.item():g}: expected "
            f"{'probabilities in [0, 1]; apply the sigmoid first' if fractions else '0 and 1'}."
        )
    return maps


def _refuse_another_case(path: Path, shape: tuple[int, ...], affine: np.ndarray) -> None:
    if not path.exists():
        return
    there = open_nifti(path)
    if there.shape != shape or not np.allclose(there.affine, affine, rtol=SAME_PLACE, atol=SAME_PLACE):
        raise ValueError(
            f"{path} belongs to another case: its size is {there.shape}, this one's {shape}, or its affine differs; "
            "choose another output_dir."
        )
