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
import torch.nn.functional as F
from torch import Tensor

from monai_ext.formulas.regions import paste_region
from monai_ext.raster.images import ImageFileError
from monai_ext.raster.nifti import READING_ERRORS, SAME_PLACE, open_nifti, plane_of, save_nifti, without_singletons
from monai_ext.runtime.errors import one_line
from monai_ext.storage.files import inside

__all__ = ["RaterWriter"]


class RaterWriter:
    """Writes predictions for items of `qubiq_items` as NIfTI, in the layout and the naming of the challenge.

    Everything goes to `output_dir/<case>/` (for slices of volumes `output_dir/<case>_z<index>/`) with size, affine and
    units of the case's own image. What was predicted at another size is restored bilinearly (antialiased where it
    shrinks), masks then with a threshold of one half; with a "roi" in the item it is brought to its place
    there. The mask of one slice is a volume of one slice at its place.
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
            masks: (R, h, w), bool or integers 0/1, or probabilities in [0, 1], of which those above 0.5 once restored
                are foreground.
            raters: their numbers RR; None: those of the item.
        """
        numbers = item.get("raters") if raters is None else raters
        if numbers is None:
            raise ValueError(f"case {item['case']} has no raters of its own: name those of the masks by raters=.")
        return self._write_each(item, masks, [f"seg{number:02d}" for number in numbers])

    def write_samples(self, item: Mapping, samples: Tensor) -> list[Path]:
        """`taskTT_sampleMM.nii.gz` (uint8, 0/1), MM = 01 ... M; samples (M, h, w) as the masks of `write_masks`."""
        return self._write_each(item, samples, [f"sample{number + 1:02d}" for number in range(len(samples))])

    def write_probability(self, item: Mapping, probability: Tensor) -> Path:
        """`taskTT.nii.gz` (float32), the file that the challenge scores: the predicted share of raters.

        Args:
            probability: (h, w) or (1, h, w), floating point in [0, 1].
        """
        name = f"task{item.get('task', 1):02d}.nii.gz"
        values = torch.as_tensor(probability).detach().cpu()
        if not values.is_floating_point() or values.ndim not in (2, 3) or values.shape[:-2].numel() != 1:
            raise ValueError(
                f"the probability for case {item['case']} is {values.dtype} {tuple(values.shape)}: expected floating "
                "point (h, w) or (1, h, w)."
            )
        return self._write(item, _checked(values.reshape(1, *values.shape[-2:]), item), [name], np.float32)[0]

    def _write_each(self, item: Mapping, masks: Tensor, kinds: Sequence[str]) -> list[Path]:
        masks = torch.as_tensor(masks).detach().cpu()
        if masks.ndim != 3 or len(masks) != len(kinds) or not kinds:
            raise ValueError(
                f"the masks for case {item['case']} are {tuple(masks.shape)}: expected ({len(kinds)}, h, w), one for "
                f"each of {', '.join(kinds)}."
            )
        names = [f"task{item.get('task', 1):02d}_{kind}.nii.gz" for kind in kinds]
        return self._write(item, _checked(masks, item), names, np.uint8)

    def _write(self, item: Mapping, maps: Tensor, names: Sequence[str], dtype: type) -> list[Path]:
        """maps (N, h, w), restored to the size of the case, as one file each."""
        source = open_nifti(item["image"])
        shape, affine, plane = self._geometry(item, source)
        if "roi" in item:
            maps = paste_region(maps, item["roi"], plane)
        elif maps.shape[1:] != plane:
            maps = F.interpolate(maps[None].float(), plane, mode="bilinear", antialias=True)[0]
        if dtype is np.uint8:
            maps = maps > 0.5
        header = source.header.copy()
        header.set_data_dtype(dtype)
        header["cal_min"] = header["cal_max"] = 0
        header.extensions.clear()
        folder = inside(self.output_dir, str(item["id"] if "slice" in item else item["case"]))
        try:
            images = [type(source)(values.numpy().astype(dtype).reshape(shape), affine, header) for values in maps]
        except READING_ERRORS as error:
            raise ImageFileError(
                f"{item['image']} has a geometry that no file can have ({one_line(error)})."
            ) from error
        paths = [folder / name for name in names]
        for path in paths:
            _refuse_another_case(path, shape, affine)
        for image, path in zip(images, paths, strict=True):
            save_nifti(image, path)
        return paths

    def _geometry(self, item: Mapping, source: nib.Nifti1Image) -> tuple[tuple[int, ...], np.ndarray, tuple[int, int]]:
        """Shape and affine of the file to write, and the (H, W) of the picture in it."""
        shape, affine = source.shape, source.affine
        if "slice" in item:
            step = np.eye(4)
            step[2, 3] = item["slice"]
            return (*shape[:2], 1), affine @ step, (shape[0], shape[1])
        mask = next((path for path in item.get("label", ()) if path is not None), None)
        plane = plane_of(
            without_singletons(shape),
            item["image"],
            mask_size=None if mask is None else without_singletons(open_nifti(mask).shape),
            channel_axis=self.channel_axis,
        )
        if plane.channel_axis is None:
            return shape, affine, plane.size
        # The file's first three axes are placed in the room by a column each; the channels' goes last, in no use.
        spatial = [axis for axis in range(3) if axis != plane.channel_axis]
        return plane.size, affine[:, [*spatial, plane.channel_axis, 3]], plane.size


def _checked(maps: Tensor, item: Mapping) -> Tensor:
    """`maps` as uint8 or floating point, if their values are right."""
    if maps.is_floating_point():
        maps, allowed = maps.float(), "probabilities in [0, 1]; apply the sigmoid first"
        good = ((maps >= 0) & (maps <= 1)).all()
    else:
        allowed = "0 and 1"
        good = ((maps == 0) | (maps == 1)).all()
    if not good:
        raise ValueError(
            f"the prediction for case {item['case']} holds values from {maps.min().item():g} to "
            f"{maps.max().item():g}: expected {allowed}."
        )
    return maps if maps.is_floating_point() else maps.to(torch.uint8)


def _refuse_another_case(path: Path, shape: tuple[int, ...], affine: np.ndarray) -> None:
    if not path.exists():
        return
    there = open_nifti(path)
    if there.shape != shape or not np.allclose(there.affine, affine, rtol=SAME_PLACE, atol=SAME_PLACE):
        raise ValueError(
            f"{path} belongs to another case: its size is {there.shape}, this one's {shape}, or its affine differs; "
            "choose another output_dir."
        )
