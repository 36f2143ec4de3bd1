"""NRRD and MetaImage files, read by SimpleITK."""

from __future__ import annotations

import os

import nibabel as nib
import numpy as np

from monai_ext.raster.errors import ImageFileError
from monai_ext.runtime.errors import one_line

__all__ = ["ITK_ENDINGS", "open_itk"]

ITK_ENDINGS = (".nrrd", ".mha")
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's axes lead to the left and to the back


def open_itk(path: str | os.PathLike) -> nib.Nifti1Image:
    """The image in a file, its voxels (X, Y, Z) or, of several channels, (X, Y, Z, C), with its affine.

    Raises:
        ImageFileError: SimpleITK is not installed, or cannot read the file.
    """
    try:
        import SimpleITK as sitk
    except ImportError:
        raise ImageFileError(f"{path} is read by SimpleITK: pip install SimpleITK.") from None
    if not os.path.isfile(path):
        raise ImageFileError(f"image file {path} does not exist.")
    try:
        image = sitk.ReadImage(os.fspath(path))
    except RuntimeError as error:
        raise ImageFileError(f"cannot read {path}: {one_line(error)}.") from error
    axes, channels = image.GetDimension(), image.GetNumberOfComponentsPerPixel()
    if axes not in (2, 3):
        raise ImageFileError(f"{path} has {axes} axes: save each of its volumes as a file of its own.")
    voxels = sitk.GetArrayFromImage(image)  # (Z, Y, X, C)
    voxels = np.moveaxis(voxels.T, 0, -1) if channels > 1 else voxels.T
    affine = np.eye(4)
    affine[:axes, :axes] = np.array(image.GetDirection()).reshape(axes, axes) * np.array(image.GetSpacing())
    affine[:axes, 3] = image.GetOrigin()
    if axes == 2 and channels > 1:
        voxels = voxels[:, :, None]
    return nib.Nifti1Image(_storable(voxels), TO_RAS @ affine)


def _storable(voxels: np.ndarray) -> np.ndarray:
    """Integers of 64 bits, which nibabel refuses, in 32, or as floats."""
    if voxels.dtype not in (np.int64, np.uint64):
        return voxels
    limits = np.iinfo(np.int32)
    fits = limits.min <= voxels.min(initial=0) and voxels.max(initial=0) <= limits.max
    return voxels.astype(np.int32 if fits else np.float64)
