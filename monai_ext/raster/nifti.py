"""NIfTI files read with errors that name them, and predictions written in the geometry of the case they are for.

Axes are used as stored, without reorientation: index (i, j) of a file is (row, column) of the tensors, and writing goes
the same way back, so a prediction lies voxel on voxel over its image whatever the affine says.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F
from nibabel.filebasedimages import ImageFileError as NibabelFileError
from nibabel.spatialimages import HeaderDataError
from torch import Tensor

from monai_ext.raster.images import ImageFileError
from monai_ext.runtime.errors import one_line
from monai_ext.runtime.memory import free_memory, in_words
from monai_ext.storage.files import atomic_path, inside

__all__ = ["RaterWriter", "open_nifti", "plane_of", "read_nifti", "save_nifti"]

# What nibabel lets out on damaged files.
READING_ERRORS = (
    OSError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError, MemoryError,
    zlib.error, struct.error, NibabelFileError, HeaderDataError,
)  # fmt: skip
DEFLATED_AT_MOST = 1032  # times: no deflated file unpacks to more
READ_UNASKED = 2**28  # bytes of voxels that are read without a look at the free memory
SAME_PLACE = 1e-3  # affines whose entries differ by less are one geometry (header fields are single precision)


class Plane(NamedTuple):
    """Where the picture lies in an array: its (H, W), and the axis of its channels, None where it has no such axis."""

    size: tuple[int, int]
    channel_axis: int | None


def open_nifti(path: str | os.PathLike) -> nib.Nifti1Image:
    """The file with its header read and its voxels not yet.

    Raises:
        ImageFileError: it is missing, damaged or no NIfTI, or promises more voxels than it can hold.
    """
    try:
        stored = nib.load(path)
        promised = stored.get_data_dtype().itemsize * math.prod(stored.shape)
        size = os.path.getsize(path)
    except FileNotFoundError as error:
        raise ImageFileError(f"image file {path} does not exist.") from error
    except READING_ERRORS as error:
        raise ImageFileError(f"cannot read {path} as NIfTI: {one_line(error)}.") from error
    if not 0 < promised <= size * (DEFLATED_AT_MOST if os.fspath(path).lower().endswith(".gz") else 1):
        raise ImageFileError(
            f"cannot read {path} as NIfTI: its header promises {in_words(promised)} of voxels, and the file has "
            f"{in_words(size)}."
        )
    return stored


def read_nifti(path: str | os.PathLike, *, slice_index: int | None = None) -> np.ndarray:
    """Voxels of a file with its scale factor applied, in native byte order, without singleton axes after the second.

    Args:
        slice_index: take [:, :, slice_index] alone; a file of two axes is its own slice 0. A compressed file is
            unpacked up to there.

    Raises:
        ImageFileError: the file cannot be read, has fewer than two axes or no such slice, holds colours or complex
            numbers, or does not fit into the free memory.
    """
    stored = open_nifti(path)
    shape = stored.shape
    if len(shape) < 2:
        raise ImageFileError(f"{path} has the shape {shape}: a picture has at least two axes.")
    depth = shape[2] if len(shape) > 2 else 1
    if slice_index is not None and not 0 <= slice_index < depth:
        raise ImageFileError(f"{path} has {depth} slice(s) along its third axis, so no slice {slice_index}.")
    whole = slice_index is None or len(shape) == 2
    needed = 8 * math.prod(shape if whole else shape[:2])  # as float64, which a scale factor makes of them
    if needed > READ_UNASKED and needed > (free := free_memory(torch.device("cpu")) or needed):
        raise ImageFileError(f"{path} takes {in_words(needed)} of memory, of which {in_words(free)} are free.")
    try:
        voxels = np.asanyarray(stored.dataobj if whole else stored.dataobj[:, :, slice_index])
    except READING_ERRORS as error:
        raise ImageFileError(f"cannot read {path} as NIfTI: {one_line(error)}.") from error
    if voxels.dtype.kind not in "biuf":
        raise ImageFileError(f"{path} holds {voxels.dtype} voxels: save it with one real number a voxel.")
    voxels = voxels.reshape(without_singletons(voxels.shape))
    return voxels.astype(voxels.dtype.newbyteorder("="), copy=False)


def without_singletons(shape: Sequence[int]) -> tuple[int, ...]:
    """`shape` without axes of length 1 after the second."""
    return *shape[:2], *(side for side in shape[2:] if side != 1)


def plane_of(
    shape: Sequence[int], path: str | os.PathLike, *, mask_size: Sequence[int] | None, channel_axis: int | None
) -> Plane:
    """Which axes of an image of this `shape` (singletons removed) are rows, columns and channels.

    Two axes are rows and columns. Of three, the channels are the one without which the size of the masks is left, or
    `channel_axis` where that is given.

    Args:
        path: of the image, for the message.
        mask_size: shape of a mask of the case, None where it has none.
        channel_axis: 0, 1 or 2, which must agree with `mask_size`.

    Raises:
        ImageFileError: no axis or several fit, or the image is a volume.
    """
    shape = tuple(shape)
    if len(shape) == 2:
        return Plane(shape, None)
    if len(shape) < 2:
        raise ImageFileError(f"image {path} has the shape {shape}: a picture has rows and columns.")
    if len(shape) > 3 or (mask_size is not None and tuple(mask_size) == shape):
        raise ImageFileError(f"image {path} is a volume of shape {shape}: list its slices with slices=True.")
    candidates = range(3) if channel_axis is None else [channel_axis]
    sizes = {axis: tuple(np.delete(shape, axis).tolist()) for axis in candidates}
    if mask_size is None and channel_axis is None:
        raise ImageFileError(
            f"image {path} has the shape {shape} and no mask tells which axis its channels are: set channel_axis, or "
            "list the slices of a volume with slices=True."
        )
    axes = [axis for axis, size in sizes.items() if mask_size is None or size == tuple(mask_size)]
    if len(axes) > 1:
        raise ImageFileError(f"image {path} has the shape {shape}, which can be read in two ways: set channel_axis.")
    if not axes:
        raise ImageFileError(
            f"image {path} has the shape {shape}, which does not fit its masks of {tuple(mask_size)} pixels with the "
            f"channels on {'any axis' if channel_axis is None else f'axis {channel_axis}'}: pair the right files."
        )
    return Plane(sizes[axes[0]], axes[0])


def save_nifti(image: nib.Nifti1Image, path: str | os.PathLike) -> None:
    """Write `image` to `path`, compressed if that ends in .gz, whole or not at all; equal images give equal bytes."""
    content = image.to_bytes()
    with atomic_path(path) as temporary:
        packed = str(path).endswith(".gz")
        temporary.write_bytes(gzip.compress(content, compresslevel=6, mtime=0) if packed else content)


class RaterWriter:
    """Writes predictions for items of `qubiq_items` as NIfTI, in the layout and the naming of the challenge.

    Everything goes to `output_dir/<case>/` (for slices of volumes `output_dir/<case>_z<index>/`) with size, affine and
    units of the case's own image. What was predicted at another size is restored bilinearly (antialiased where it
    shrinks), masks then with a threshold of one half. The mask of one slice is a volume of one slice at its place.
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
        """`taskTT_segRR.nii.gz` (uint8, 0/1) for each annotator.

        Args:
            masks: (R, h, w), bool or integers 0/1, or probabilities in [0, 1], of which those above 0.5 once restored
                are foreground.
            raters: their numbers RR; None: those of the item.
        """
        numbers = item.get("raters") if raters is None else raters
        if numbers is None:
            raise ValueError(f"case {item['case']} has no annotators of its own: say whose masks these are by raters=.")
        return self._write_each(item, masks, [f"seg{number:02d}" for number in numbers])

    def write_samples(self, item: Mapping, samples: Tensor) -> list[Path]:
        """`taskTT_sampleMM.nii.gz` (uint8, 0/1), MM = 01 ... M; samples (M, h, w) as the masks of `write_masks`."""
        return self._write_each(item, samples, [f"sample{number + 1:02d}" for number in range(len(samples))])

    def write_probability(self, item: Mapping, probability: Tensor) -> Path:
        """`taskTT.nii.gz` (float32), the file that the challenge scores: the predicted share of annotators.

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
        if maps.shape[1:] != plane:
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
            return (*shape[:2], 1), affine @ step, tuple(shape[:2])
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
