"""NRRD and MetaImage files."""

from __future__ import annotations

import numpy as np
import pytest

from monai_ext.raster.errors import ImageFileError
from monai_ext.raster.itk_files import open_itk
from monai_ext.raster.nifti import read_nifti

sitk = pytest.importorskip("SimpleITK", reason="NRRD files are read by SimpleITK, which is not installed")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_axes_are_as_stored_and_the_affine_leads_to_the_right_and_the_front(suffix, tmp_path):
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)  # Z, Y, X
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.5, 2.0, 3.0))
    image.SetOrigin((1.0, 2.0, 3.0))
    image.SetDirection((0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(image, str(path))
    stored = open_itk(path)
    assert stored.shape == (4, 3, 2) and np.array_equal(read_nifti(path), voxels.T)
    for index in ((0, 0, 0), (3, 0, 0), (1, 2, 1)):
        left, back, up = image.TransformIndexToPhysicalPoint(index)
        assert np.allclose(stored.affine @ [*index, 1], [-left, -back, up, 1])


def test_channels_are_the_last_axis_and_pictures_have_one_slice(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(tmp_path / "a.nrrd"))
    stored = open_itk(tmp_path / "a.nrrd")
    assert stored.shape == (7, 5, 1, 3) and np.array_equal(np.asarray(stored.dataobj)[:, :, 0], pixels.swapaxes(0, 1))


def test_whole_numbers_of_64_bits_are_held_in_32(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.array([[0, 2]], dtype=np.int64)), str(tmp_path / "a.nrrd"))
    assert np.asarray(open_itk(tmp_path / "a.nrrd").dataobj).ravel().tolist() == [0, 2]


def test_a_missing_and_a_damaged_file_are_named(tmp_path):
    with pytest.raises(ImageFileError, match=r"b\.nrrd does not exist"):
        open_itk(tmp_path / "b.nrrd")
    (tmp_path / "c.nrrd").write_text("no image")
    with pytest.raises(ImageFileError, match=r"cannot read .*c\.nrrd"):
        open_itk(tmp_path / "c.nrrd")
