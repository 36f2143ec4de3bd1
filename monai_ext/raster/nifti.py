"""Reading and writing of NIfTI files, with errors that name the file; DICOM is read as if it were NIfTI.

Axes are used as stored, without reorientation: index (i, j) of a file is (row, column) of the tensors. Compressed files
are unpacked to their end once in every state of the file, because the checksum stands there.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import time
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
from nibabel.filebasedimages import ImageFileError as NibabelFileError
from nibabel.spatialimages import HeaderDataError

from monai_ext.raster.dicom import is_dicom, open_dicom
from monai_ext.raster.errors import ImageFileError
from monai_ext.raster.itk_files import ITK_ENDINGS, open_itk
from monai_ext.runtime.errors import one_line
from monai_ext.runtime.memory import free_memory, in_words
from monai_ext.storage.files import atomic_path

__all__ = [
    "READING_ERRORS",
    "SAME_PLACE",
    "Plane",
    "Volume",
    "VOLUME_ENDINGS",
    "advice",
    "is_scan",
    "is_volume_file",
    "open_nifti",
    "plane_of",
    "read_nifti",
    "save_nifti",
    "volume_of",
    "without_singletons",
]

VOLUME_ENDINGS = (".nii.gz", ".nii", *ITK_ENDINGS)  # the longest first, to be cut off a name
# What nibabel raises on damaged files.
READING_ERRORS = (
    OSError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError, MemoryError,
    zlib.error, struct.error, NibabelFileError, HeaderDataError,
)  # fmt: skip
DEFLATED_AT_MOST = 1032  # times: no deflated file unpacks to more
READ_UNCHECKED = 2**28  # bytes of voxels that are read without a look at the free memory
KEPT_AT_MOST = 2**28  # bytes of a compressed file that are kept from the check of its sum for the reading
BLOCK = 2**20  # bytes
MOST_REMEMBERED = 100_000  # files
SMALL, MOST_RECENT = 2**18, 128  # bytes of a file that is kept in memory for a while, and how many files
YOUNG = 2 * 10**9  # nanoseconds: a file written so shortly ago may be written again with the same time
SAME_PLACE = 1e-3  # affines whose entries differ by less are one geometry (header fields are single precision)


State = tuple[str, int, int]  # path, size and time
_sound: dict[State | None, None] = {}  # compressed files whose sum was right
_recent: dict[State | None, nib.Nifti1Image] = {}  # some of them as a whole: a case's files are opened several times


class Plane(NamedTuple):
    """Where the picture lies in an array: its (H, W), and the axis of its channels, None where it has no such axis."""

    size: tuple[int, int]
    channel_axis: int | None


class Volume(NamedTuple):
    """Where the volume lies in an array: its (H, W, D), and the axis of its channels, as in `Plane`."""

    size: tuple[int, int, int]
    channel_axis: int | None


def is_volume_file(path: str | os.PathLike) -> bool:
    """Whether a file has the suffix of NIfTI, NRRD or MetaImage.

    >>> is_volume_file("case01/image.nii.gz"), is_volume_file("image.png")
    (True, False)
    """
    return os.fspath(path).lower().endswith(VOLUME_ENDINGS)


def is_scan(path: str | os.PathLike) -> bool:
    """Whether a file is NIfTI, NRRD, MetaImage or DICOM, or a folder a DICOM series: images with a place in space."""
    return is_volume_file(path) or is_dicom(path)


def open_nifti(path: str | os.PathLike) -> nib.Nifti1Image:
    """The image in a file, its header read, its voxels not yet; of a compressed file the checksum is right.

    A DICOM file or a folder with the files of a DICOM series is one too, see `monai_ext.raster.dicom`.
    NRRD and MetaImage files are read whole, by SimpleITK, and are given as NIfTI has them: axes as stored, affine to
    the right, to the front and upwards.

    Raises:
        ImageFileError: it is missing, damaged or no NIfTI, or declares more voxels than it can hold.
    """
    if os.fspath(path).lower().endswith(ITK_ENDINGS):
        return open_itk(path)
    if not os.fspath(path).lower().endswith((".nii", ".gz")) and is_dicom(path):
        return open_dicom(path)
    recent = _recent.get(_state(path))
    if recent is not None:
        return recent
    try:
        stored = nib.load(path)
        if not isinstance(stored, nib.Nifti1Image):
            raise NibabelFileError(f"it holds a {type(stored).__name__}")
        declared = stored.get_data_dtype().itemsize * math.prod(stored.shape)
        size = os.path.getsize(path)
    except FileNotFoundError as error:
        raise ImageFileError(f"image file {path} does not exist.") from error
    except READING_ERRORS as error:
        raise ImageFileError(f"cannot read {path} as NIfTI: {one_line(error)}.") from error
    if not 0 < declared <= size * (DEFLATED_AT_MOST if os.fspath(path).lower().endswith(".gz") else 1):
        raise ImageFileError(
            f"cannot read {path} as NIfTI: its header declares {in_words(declared)} of voxels, and the file has "
            f"{in_words(size)}."
        )
    return _checked(stored, path, declared) if os.fspath(path).lower().endswith(".gz") else stored


def _checked(stored: nib.Nifti1Image, path: str | os.PathLike, declared: int) -> nib.Nifti1Image:
    """The image of a compressed file, once its checksum is right; in memory where it was unpacked for that just now."""
    try:
        state = _state(path)
        if state in _sound:
            _keep(state, stored)
            return stored
        proxy: Any = stored.dataobj  # an ArrayProxy, which nibabel types as array-like
        content = _unpacked(path, int(proxy.offset) + declared + BLOCK)
        image = stored if content is None else type(stored).from_bytes(content)
    except ImageFileError:
        raise
    except READING_ERRORS as error:
        raise ImageFileError(f"cannot read {path} as NIfTI: {one_line(error)}.") from error
    if state is not None and time.time_ns() - state[2] > YOUNG:
        if len(_sound) >= MOST_REMEMBERED:
            _sound.clear()
        _sound[state] = None
        if content is not None and len(content) <= SMALL:
            _keep(state, image)
    return image


def _keep(state: State | None, image: nib.Nifti1Image) -> None:
    if len(_recent) >= MOST_RECENT:
        _recent.clear()
    _recent[state] = image


def _state(path: str | os.PathLike) -> State | None:
    """What changes with the content of a compressed file; None where there is no file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return os.path.abspath(path), status.st_size, status.st_mtime_ns


def _unpacked(path: str | os.PathLike, most: int) -> bytes | None:
    """All bytes of a gzip file, read to the checksum at its end; None if they are too many to be kept.

    Raises:
        ImageFileError: they are more than `most`.
    """
    content, count = bytearray(), 0
    with gzip.open(path) as file:
        while block := file.read(BLOCK):
            count += len(block)
            if count > most:
                raise ImageFileError(f"cannot read {path} as NIfTI: it unpacks to more than its header declares.")
            if count <= KEPT_AT_MOST:
                content += block
    return bytes(content) if count <= KEPT_AT_MOST else None


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
    if slice_index is not None and len(shape) == 3 and shape[0] == 1 < min(shape[1:]):
        raise ImageFileError(f"{path} has the shape {shape}, which is no volume: {advice(shape)}.")
    if slice_index is not None and not 0 <= slice_index < depth:
        raise ImageFileError(f"{path} has {depth} slice(s) along its third axis, so no slice {slice_index}.")
    whole = slice_index is None or len(shape) == 2
    needed = 8 * math.prod(shape if whole else shape[:2])  # as float64, which a scale factor makes of them
    if needed > READ_UNCHECKED and needed > (free := free_memory(torch.device("cpu")) or needed):
        raise ImageFileError(f"{path} takes {in_words(needed)} of memory, of which {in_words(free)} are free.")
    try:
        voxels = np.asanyarray(stored.dataobj if whole else stored.dataobj[:, :, slice_index])
    except ImageFileError:
        raise
    except READING_ERRORS as error:
        raise ImageFileError(f"cannot read {path} as NIfTI: {one_line(error)}.") from error
    if voxels.dtype.kind not in "biuf":
        raise ImageFileError(f"{path} holds {voxels.dtype} voxels: save it with one real number a voxel.")
    voxels = voxels.reshape(without_singletons(voxels.shape))
    return voxels.astype(voxels.dtype.newbyteorder("="), copy=False)


def without_singletons(shape: Sequence[int]) -> tuple[int, ...]:
    """`shape` without axes of length 1 after the second."""
    return *shape[:2], *(side for side in shape[2:] if side != 1)


def advice(shape: Sequence[int]) -> str:
    """What to do about an array of this shape where a picture of two axes is expected."""
    if len(shape) == 3 and shape[0] == 1:
        return f"its first axis has length 1: save it as {shape[1]} x {shape[2]}, rows and columns first"
    if len(shape) == 3:
        return "list the slices of a volume with slices=True, or read volumes with spatial_dims=3"
    return "save each of its volumes as a file of its own"


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
    shape, masks = tuple(shape), None if mask_size is None else tuple(mask_size)
    if len(shape) == 2:
        return Plane((shape[0], shape[1]), None)
    if len(shape) < 2:
        raise ImageFileError(f"image {path} has the shape {shape}: a picture has rows and columns.")
    if len(shape) > 3 or masks == shape:
        raise ImageFileError(f"image {path} has the shape {shape}, which is no picture: {advice(shape)}.")
    sizes = {0: (shape[1], shape[2]), 1: (shape[0], shape[2]), 2: (shape[0], shape[1])}
    if channel_axis is not None:
        sizes = {channel_axis: sizes[channel_axis]}
    if masks is None and channel_axis is None:
        raise ImageFileError(
            f"image {path} has the shape {shape} and no mask to find the axis of its channels by: set channel_axis, "
            "or list the slices of a volume with slices=True."
        )
    axes = [axis for axis, size in sizes.items() if masks in (None, size)]
    if len(axes) > 1:
        raise ImageFileError(f"image {path} has the shape {shape}, which can be read in two ways: set channel_axis.")
    if not axes:
        raise ImageFileError(
            f"image {path} has the shape {shape}, which does not fit its masks of {masks} pixels with the "
            f"channels on {'any axis' if channel_axis is None else f'axis {channel_axis}'}: pair the right files."
        )
    return Plane(sizes[axes[0]], axes[0])


def volume_of(
    shape: Sequence[int], path: str | os.PathLike, *, mask_size: Sequence[int] | None, channel_axis: int | None
) -> Volume:
    """Which axes of an image of this `shape` (singletons removed) are those of a volume and its channels.

    A picture is a volume of one slice. Three axes are those of a volume, where the masks do not leave one of them over;
    of four, the channels are the one without which the size of the masks is left, or `channel_axis`.

    Args:
        path: of the image, for the message.
        mask_size: shape of a mask of the case (singletons removed), None where it has none.
        channel_axis: 0, 1, 2 or 3, of images of four axes.

    Raises:
        ImageFileError: no axis or several fit.
    """
    shape, masks = tuple(shape), None if mask_size is None else tuple(mask_size)
    if len(shape) == 2 or (len(shape) == 3 and masks is not None and len(masks) == 2):
        plane = plane_of(shape, path, mask_size=masks, channel_axis=channel_axis if len(shape) == 3 else None)
        return Volume((*plane.size, 1), plane.channel_axis)
    if len(shape) == 3:
        return Volume((shape[0], shape[1], shape[2]), None)
    axes = range(4) if channel_axis is None else [channel_axis]
    sizes = {axis: tuple(side for place, side in enumerate(shape) if place != axis) for axis in axes}
    fitting = [axis for axis, size in sizes.items() if masks in (None, size)]
    if len(shape) != 4 or len(fitting) != 1:
        masked = "no mask" if masks is None else f"masks of {masks} voxels"
        raise ImageFileError(
            f"image {path} has the shape {shape} and {masked}: of a volume of several channels give the axis of these "
            "by channel_axis, and pair the right files."
        )
    first, second, third = sizes[fitting[0]]
    return Volume((first, second, third), fitting[0])


def save_nifti(image: nib.Nifti1Image, path: str | os.PathLike) -> None:
    """Write `image` to `path`, compressed if that ends in .gz, whole or not at all; equal images give equal bytes."""
    content = image.to_bytes()
    with atomic_path(os.fspath(path)) as temporary:
        packed = str(path).endswith(".gz")
        temporary.write_bytes(gzip.compress(content, compresslevel=6, mtime=0) if packed else content)
