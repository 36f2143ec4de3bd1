"""DICOM images and series: voxels, places, and what cannot be read, in one sentence each."""

from __future__ import annotations

import importlib.util
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from rater_cases import save_nifti_array

from monai_ext.data import DecodeRaterImages, DecodeRaters, RaterWriter, qubiq_items, rater_image_items, read_nifti
from monai_ext.data.device.cache_file import file_key
from monai_ext.raster.dicom import is_dicom, open_dicom
from monai_ext.raster.images import ImageFileError
from monai_ext.raster.nifti import open_nifti

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("pydicom") is None, reason='needs pydicom: pip install "pydicom>=3"'
)

HU = np.arange(4 * 6 * 5, dtype=np.int16).reshape(4, 6, 5)  # rows, columns, slices


def write_series(folder, volume=HU, **settings):
    from dicom_series import write_series

    return write_series(folder, volume, **settings)


def write_slice(path, pixels=HU[:, :, 0], **settings):
    from dicom_series import write_slice

    return write_slice(path, pixels, **settings)


def test_a_series_is_a_volume_in_the_order_of_its_places(tmp_path):
    folder = write_series(tmp_path / "ct", RescaleSlope=1, RescaleIntercept=-1024)
    (folder / "LICENSE.txt").write_text("passed over")
    image = open_nifti(folder)
    assert image.shape == (4, 6, 5) and image.get_data_dtype() == np.int32
    assert np.array_equal(read_nifti(folder), HU.astype(int) - 1024)
    assert np.array_equal(read_nifti(folder, slice_index=3), HU[:, :, 3].astype(int) - 1024)
    # voxel (row 2, column 3, slice 4): 1.5 mm to the left and 1.4 to the back of the first one, 10 mm above it
    np.testing.assert_allclose(image.affine @ [2, 3, 4, 1], [20 - 1.5, -10 - 1.4, 40, 1])
    assert nib.aff2axcodes(image.affine) == ("P", "L", "S")


def test_slices_lie_along_the_normal_of_other_directions(tmp_path):
    sagittal = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)  # columns lead to the back, rows downwards
    for index in range(3):
        write_slice(tmp_path / f"{index}.dcm", HU[:, :, index], place=(3.0 * index, 0, 0), cosines=sagittal)
    image = open_dicom(tmp_path)
    # the normal of these rows and columns leads to the right, away from DICOM's first axis
    assert nib.aff2axcodes(image.affine) == ("I", "P", "R")
    assert np.array_equal(read_nifti(tmp_path), HU[:, :, [2, 1, 0]])


def test_single_images_are_pictures(tmp_path):
    grey = write_slice(tmp_path / "grey.dcm", HU[:, :, 0].astype(np.uint8), place=None)
    inverted = write_slice(
        tmp_path / "inverted.dcm", HU[:, :, 0].astype(np.uint8), PhotometricInterpretation="MONOCHROME1"
    )
    colours = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    colour = write_slice(tmp_path / "1.2.840.17", colours, place=None, ImagerPixelSpacing=[0.2, 0.3])
    half = write_slice(tmp_path / "half.dcm", series="4.5", RescaleSlope=0.5)
    assert is_dicom(colour) and read_nifti(grey).dtype == np.uint8
    assert np.array_equal(read_nifti(grey), HU[:, :, 0])
    assert np.array_equal(read_nifti(inverted), 255 - HU[:, :, 0])
    assert np.array_equal(read_nifti(colour), colours) and open_nifti(colour).header["sform_code"] == 0
    assert open_nifti(colour).header.get_zooms()[:2] == pytest.approx((0.2, 0.3))
    assert np.array_equal(read_nifti(half), HU[:, :, 0] / 2) and read_nifti(half).dtype == np.float32
    items = rater_image_items(tmp_path)
    assert [item["id"] for item in items] == ["1.2.840.17", "grey", "half", "inverted"]
    assert DecodeRaterImages()(items[1])["image"].shape == (1, 4, 6)
    assert DecodeRaterImages(in_channels=3, channel_axis=2)(items[0])["image"].shape == (3, 4, 6)


def test_series_are_listed_by_their_folders_and_decoded_as_volumes_or_slices(tmp_path):
    for name in ("a", "b"):
        write_series(tmp_path / "study" / name, series=name.replace("a", "1.1").replace("b", "1.2"))
    items = rater_image_items(tmp_path / "study")
    assert [item["id"] for item in items] == ["a", "b"]
    assert DecodeRaterImages(spatial_dims=3)(items[0])["image"].shape == (1, 4, 6, 5)
    (alone,) = rater_image_items(tmp_path / "study" / "b")
    assert alone["id"] == "b" and np.array_equal(DecodeRaterImages(spatial_dims=3)(alone)["image"][0], HU)
    slices = rater_image_items(tmp_path / "study" / "b", slices=True)
    assert len(slices) == 5 and np.array_equal(DecodeRaterImages()(slices[2])["image"][0], HU[:, :, 2])


def test_a_case_of_several_raters_may_have_a_series_as_its_image(tmp_path):
    folder = tmp_path / "Training" / "case01"
    image = open_nifti(write_series(folder / "image"))
    mask = (HU % 3 == 0).astype(np.uint8)
    canonical = nib.as_closest_canonical(nib.Nifti1Image(mask, image.affine))  # as a labelling tool may store it
    save_nifti_array(folder / "task01_seg01.nii.gz", np.asarray(canonical.dataobj), canonical.affine)
    (item,) = qubiq_items(tmp_path)
    decoded = DecodeRaters(spatial_dims=3, dtype=torch.int16)(item)
    assert np.array_equal(decoded["image"][0], HU) and np.array_equal(decoded["label"][0], mask)
    (slice_item,) = [each for each in qubiq_items(tmp_path, slices=True) if each["slice"] == 2]
    path = RaterWriter(tmp_path / "out").write_probability(slice_item, torch.full((4, 6), 0.5))
    written = nib.load(path)
    np.testing.assert_allclose(written.affine @ [0, 0, 0, 1], image.affine @ [0, 0, 2, 1], atol=1e-5)
    before = file_key([item], DecodeRaters())
    write_slice(folder / "image" / "IM0000.dcm", HU[:, :, 0] + 1, place=(-20.0, 10.0, 30.0), SeriesDescription="later")
    assert file_key([item], DecodeRaters()).fingerprint != before.fingerprint


def several_series(folder):
    write_series(folder)
    write_slice(folder / "scout.dcm", series="9.9", SeriesDescription="scout")


def missing_slice(folder):
    write_series(folder)
    (folder / "IM0003.dcm").unlink()  # the third: 7 * 2 mod 11


def same_place(folder):
    write_series(folder)
    write_slice(folder / "again.dcm", place=(-20.0, 10.0, 35.0))


def uneven(folder):
    write_series(folder)
    write_slice(folder / "last.dcm", place=(-20.0, 10.0, 43.2))


def localizer(folder):
    write_series(folder)
    write_slice(folder / "scout.dcm", cosines=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0))


def other_size(folder):
    write_series(folder)
    write_slice(folder / "small.dcm", HU[:2, :, 0], place=(0, 0, 90))


def unplaced(folder):
    write_series(folder)
    write_slice(folder / "scout.dcm", place=None)


def compressed(folder):
    from pydicom import dcmread
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000

    path = write_slice(folder / "a.dcm")
    image = dcmread(path)
    image.file_meta.TransferSyntaxUID = JPEG2000
    image.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(40)])
    image["PixelData"].VR = "OB"
    image.save_as(path)


def no_image(folder):
    write_slice(folder / "a.dcm", Rows=None, Columns=None, PixelData=None, Modality="SR")


def frames(folder):
    write_slice(folder / "a.dcm", NumberOfFrames=3)


def damaged(folder):
    path = write_slice(folder / "a.dcm")
    path.write_bytes(path.read_bytes()[:-20])


def not_dicom(folder):
    folder.mkdir()
    (folder / "a.dcm").write_bytes(b"\0" * 300)


WRONG = {
    r"holds 2 series \(5 files of 1.2.3, 1 files of scout\): give each a folder of its own": several_series,
    r"lacks slices between IM0007.dcm and IM0010.dcm: they lie 5 mm apart, others 2.5 mm": missing_slice,
    "has two slices at one place, .* several times or echoes": same_place,
    "has slices 2.5 to 3.2 mm apart: resample it": uneven,
    "holds slices of several directions, as where a localizer lies beside a series: scout.dcm": localizer,
    "holds slices of several sizes, .*: small.dcm and IM0000.dcm differ": other_size,
    r"holds 1 images without a place in space \(scout.dcm\)": unplaced,
    r"a.dcm is compressed \(JPEG 2000.*\), and no decoder for that is installed: pip install pylibjpeg": compressed,
    "a.dcm is DICOM of the kind SR and holds no image": no_image,
    "a.dcm holds 3 frames in one file: convert it to NIfTI": frames,
    "cannot read .*a.dcm as DICOM: ": damaged,
    "cannot read .*a.dcm as DICOM: File is missing DICOM": not_dicom,
}


@pytest.mark.parametrize("sentence", WRONG)
def test_what_is_no_volume_is_said_in_one_sentence(tmp_path, sentence, monkeypatch):
    from pydicom.pixels.decoders.base import Decoder

    WRONG[sentence](tmp_path / "ct")
    if WRONG[sentence] is compressed:
        monkeypatch.setattr(Decoder, "is_available", property(lambda decoder: False))
    with pytest.raises(ImageFileError, match=sentence) as error:
        read_nifti(tmp_path / "ct")
    assert "\n" not in str(error.value)


def test_without_pydicom_the_way_to_it_is_named(tmp_path, monkeypatch):
    path = write_slice(tmp_path / "a.dcm")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ImageFileError, match=r'a.dcm is DICOM and needs pydicom: pip install "pydicom>=3"'):
        open_nifti(path)
