"""Photographs and masks in volume files."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from monai_ext.raster.errors import ImageFileError
from monai_ext.raster.images import image_size, read_image
from monai_ext.raster.masks import read_mask

PIXELS = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def save(voxels: np.ndarray, path) -> None:
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)


def test_a_photograph_is_read_as_from_a_png(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    save(np.swapaxes(PIXELS, 0, 1)[:, :, None], tmp_path / "a.nii.gz")
    colours = np.zeros((7, 5, 1), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    for channel, name in enumerate("RGB"):
        colours[name][..., 0] = PIXELS[..., channel].T
    save(colours, tmp_path / "b.nii")
    expected = read_image(tmp_path / "a.png")
    assert torch.equal(read_image(tmp_path / "a.nii.gz"), expected)
    assert torch.equal(read_image(tmp_path / "b.nii"), expected)
    assert image_size(tmp_path / "a.nii.gz") == (5, 7)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_a_label_map_is_read_as_a_mask(dtype, tmp_path):
    mask = (PIXELS[..., 0] > 128).astype(dtype)
    save(mask.T[..., None], tmp_path / "m.nii.gz")
    assert np.array_equal(read_mask(tmp_path / "m.nii.gz")[0].numpy(), mask)


def test_volumes_and_other_ranges_are_refused(tmp_path):
    save(np.zeros((4, 4, 2), np.uint8), tmp_path / "v.nii")
    with pytest.raises(ImageFileError, match=r"v\.nii has the shape \(4, 4, 2\): a picture is one slice"):
        read_image(tmp_path / "v.nii")
    save(np.full((4, 4, 1), -1000, np.int16), tmp_path / "ct.nii")
    with pytest.raises(ImageFileError, match=r"ct\.nii holds values from -1000 to -1000"):
        read_image(tmp_path / "ct.nii")
