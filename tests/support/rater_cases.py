"""Cases with several raters in the layout of the QUBIQ challenge, as NIfTI files."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from monai_ext.data.raters.decoding import DecodeRaters
from monai_ext.data.raters.qubiq import qubiq_items

RAMP = np.arange(20, dtype=np.int16).reshape(4, 5)  # (H=4, W=5)


def save_nifti_array(path, values, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(values), np.eye(4) if affine is None else affine), path)
    return path


def square(size=(4, 5), side=2, value=1, dtype=np.uint8):
    mask = np.zeros(size, dtype=dtype)
    mask[:side, :side] = value
    return mask


def write_case(folder, *, raters=(1, 2), task=1, image=RAMP, affine=None, masks=None):
    if image is not None:
        save_nifti_array(folder / "image.nii.gz", image, affine)
    for number in raters:
        mask = square(side=number) if masks is None else masks[number]
        save_nifti_array(folder / f"task{task:02d}_seg{number:02d}.nii.gz", mask, affine)
    return folder


def decode_one(folder, **settings):
    return DecodeRaters(**settings)(qubiq_items(folder)[0])


def file_names(paths):
    return [None if path is None else Path(path).name for path in paths]


def volume(tmp_path):
    image = np.arange(4 * 5 * 3, dtype=np.int16).reshape(4, 5, 3)
    masks = {n: np.stack([square(side=n + z) for z in range(3)], -1) for n in (1, 2)}
    affine = np.array([[2.0, 0, 0, 10], [0, 3, 0, 20], [0, 0, 5, 30], [0, 0, 0, 1]])
    write_case(tmp_path / "case1-1", image=image, masks=masks, affine=affine)
    return image


def placed_case(folder, size, seed, shape=None):
    """A case with a size and an oblique affine of its own, in millimetres and seconds."""
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3] = rng.normal(0, 3, (3, 4))
    image = nib.Nifti1Image(rng.integers(0, 200, shape or size, dtype=np.int16), affine)
    image.header.set_xyzt_units("mm", "sec")
    folder.mkdir(parents=True)
    nib.save(image, folder / "image.nii.gz")
    for rater in (1, 4):
        save_nifti_array(folder / f"task02_seg{rater:02d}.nii.gz", rng.integers(0, 2, size, dtype=np.uint8), affine)
    return image
