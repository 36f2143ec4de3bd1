"""Raters, predictions and images in one order of voxels."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
import torch
from rater_cases import decode_one, save_nifti_array, write_case

from monai_ext.data.raters.cases import read_rater_case
from monai_ext.data.raters.decoding import DecodeRaters
from monai_ext.data.raters.geometry import Geometry, reading_in
from monai_ext.data.raters.predictions import PredictionKinds, rater_truth
from monai_ext.data.raters.qubiq import qubiq_items
from monai_ext.raster.images import ImageFileError

PLACED = np.array([[0.5, 0, 0, -30], [0, 0.7, 0, 12], [0, 0, 2, 5], [0, 0, 0, 1]])
TILTED = np.array([[0.5, -0.2, 0, 3], [0.2, 0.5, 0, 4], [0, 0, 2, 5], [0, 0, 0, 1]])
WHOLE = PredictionKinds(True, (), ())


def pattern(shape, seed=0):
    return (np.random.default_rng(seed).random(shape) > 0.6).astype(np.uint8)


def stored_as(path, values, affine, codes):
    """The same voxels in the same place, in the order of the axis codes; nibabel's own reorientation, for reference."""
    volume = nib.Nifti1Image(values if values.ndim == 3 else values[..., None], affine)
    ornt = nib.orientations.ornt_transform(nib.io_orientation(volume.affine), nib.orientations.axcodes2ornt(codes))
    turned = volume.as_reoriented(ornt)
    voxels = np.asarray(turned.dataobj)
    save_nifti_array(path, voxels if values.ndim == 3 else voxels[..., 0], turned.affine)


def case(folder, affine, codes, shape=(6, 9)):
    masks = {1: pattern(shape, 1), 2: pattern(shape, 2)}
    write_case(folder, image=pattern(shape, 3).astype(np.int16), masks=masks, affine=affine)
    stored_as(folder / "task01_seg02.nii.gz", masks[2], affine, codes)
    return masks


ORDERS = ["".join(codes) + "S" for pair in ("RA", "LA", "RP", "LP") for codes in itertools.permutations(pair)]


@pytest.mark.parametrize("codes", ORDERS)
@pytest.mark.parametrize("affine", [PLACED, TILTED, np.eye(4)], ids=["placed", "tilted", "1"])
def test_a_mask_in_another_order_of_voxels_is_brought_into_that_of_the_image(tmp_path, affine, codes):
    masks = case(tmp_path / "case01", affine, codes)
    decoded = decode_one(tmp_path)["label"]
    assert np.array_equal(decoded[0], masks[1]) and np.array_equal(decoded[1], masks[2])
    (item,) = rater_truth(tmp_path)[1]
    assert torch.equal(read_rater_case(item, None, WHOLE).masks, decoded)


@pytest.mark.parametrize("codes", ["RAS", "SPL", "ALS"])
def test_slices_of_a_volume_are_those_of_the_image(tmp_path, codes):
    masks = case(tmp_path / "case01", PLACED, codes, shape=(4, 6, 3))
    for item in qubiq_items(tmp_path, slices=True):
        assert np.array_equal(DecodeRaters()(item)["label"][1], masks[2][:, :, item["slice"]])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_channels_of_an_image_are_no_direction(tmp_path, axis):
    masks = {number: pattern((6, 9), number) for number in (1, 2)}
    write_case(tmp_path / "case01", image=None, masks=masks, affine=PLACED)
    spatial = [each for each in range(3) if each != axis]
    affine = np.eye(4)
    affine[:, spatial], affine[:, axis], affine[:, 3] = PLACED[:, :2], PLACED[:, 2], PLACED[:, 3]
    image = np.moveaxis(np.arange(3 * 54, dtype=np.int16).reshape(3, 6, 9), 0, axis)
    save_nifti_array(tmp_path / "case01" / "image.nii.gz", image, affine)
    stored_as(tmp_path / "case01" / "task01_seg01.nii.gz", masks[1], PLACED, "LPS")
    assert np.array_equal(decode_one(tmp_path)["label"][0], masks[1])


def test_predictions_are_brought_into_the_geometry_of_the_case(tmp_path):
    masks = case(tmp_path / "truth" / "case01", PLACED, "RAS")
    share = pattern((6, 9), 5).astype(np.float32) / 2
    stored_as(tmp_path / "predicted" / "task01.nii.gz", share, PLACED, "PLS")
    (item,) = rater_truth(tmp_path / "truth")[1]
    read = read_rater_case(item, {("probability", 0): [tmp_path / "predicted" / "task01.nii.gz"]}, WHOLE)
    assert np.array_equal(read.probability, share) and np.array_equal(read.masks[0], masks[1])
    assert read.elsewhere is None


def test_what_cannot_be_reordered_is_refused(tmp_path):
    case(tmp_path / "truth" / "case01", PLACED, "RAS")
    save_nifti_array(
        tmp_path / "truth" / "case01" / "task01_seg02.nii.gz", pattern((6, 9)), np.diag([-2.0, 1, 1, 1]) + TILTED
    )
    with pytest.raises(ImageFileError, match=r"seg02.nii.gz has its axes in other directions than .*image.nii"):
        decode_one(tmp_path / "truth")


@pytest.mark.parametrize("affine", [np.eye(4), np.diag([-1.0, -1, 1, 1]), PLACED + np.eye(4, k=3) * 9])
def test_files_without_geometry_and_shifted_ones_are_taken_voxel_by_voxel(tmp_path, affine):
    masks = case(tmp_path / "truth" / "case01", PLACED, "RAS")
    save_nifti_array(tmp_path / "truth" / "case01" / "task01_seg02.nii.gz", masks[2], affine)
    save_nifti_array(tmp_path / "predicted" / "task01.nii.gz", masks[1].astype(np.float32), affine)
    assert np.array_equal(decode_one(tmp_path / "truth")["label"][1], masks[2])
    (item,) = rater_truth(tmp_path / "truth")[1]
    path = tmp_path / "predicted" / "task01.nii.gz"
    read = read_rater_case(item, {("probability", 0): [path]}, WHOLE)
    assert read.elsewhere == path and np.array_equal(read.probability, masks[1])


def test_a_shift_is_measured_in_voxels_from_a_tenth_on():
    reference = Geometry("a", (6, 9), PLACED, True)
    for voxels, beside in ((0.05, None), (0.5, 0.5), (3, 3)):
        moved = reference._replace(affine=PLACED @ (np.eye(4) + voxels * np.eye(4, k=3)))
        assert reading_in(reference, moved).beside == (beside and pytest.approx(beside))
