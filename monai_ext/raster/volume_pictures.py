"""Pictures in volume files: photographs and masks of one slice, as clients of radiology send them."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from monai_ext.raster.errors import ImageFileError
from monai_ext.raster.nifti import open_nifti

__all__ = ["picture_in_volume"]


def picture_in_volume(path: str | os.PathLike) -> Image.Image:
    """The one slice of a volume file as a picture, its first axis to the right, grey or with three channels.

    Raises:
        ImageFileError: it has several slices, or another number of channels.
    """
    voxels = np.asanyarray(open_nifti(path).dataobj)
    if voxels.dtype.names:  # the colours of NIfTI
        voxels = np.stack([voxels[name] for name in voxels.dtype.names[:3]], -1)
    shape = tuple(side for side in voxels.shape[2:] if side != 1)
    if shape not in ((), (3,)):
        raise ImageFileError(
            f"{path} has the shape {voxels.shape}: a picture is one slice, grey or of three channels, the last axis."
        )
    values = np.ascontiguousarray(np.swapaxes(voxels.reshape(*voxels.shape[:2], *shape), 0, 1))
    if values.dtype.kind in "iub" and 0 <= values.min() and values.max() <= 255:
        return Image.fromarray(values.astype(np.uint8))
    if values.dtype.kind in "iu" and not shape and 0 <= values.min() and values.max() <= 65535:
        return Image.fromarray(values.astype(np.uint16))
    if values.dtype.kind == "f" and not shape:
        whole = np.isfinite(values).all() and 0 <= values.min() and values.max() <= 255
        if whole and values.max() > 1 and (values == np.round(values)).all():
            return Image.fromarray(values.astype(np.uint8))
        return Image.fromarray(values.astype(np.float32))
    raise ImageFileError(
        f"{path} holds values from {values.min()} to {values.max()}: a picture has 0 to 255, or 65535."
    )
