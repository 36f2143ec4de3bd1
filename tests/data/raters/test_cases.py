"""Masks and predictions of one case, read from every form of storage."""

from __future__ import annotations

import struct

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scored_folders import NOBODY, A, B, scored, write, write_case, write_masks

from monai_ext.data.isic import DatasetLayoutError
from monai_ext.raster.images import ImageFileError


def test_a_grey_value_of_51_reaches_the_share_of_one_in_five(tmp_path):
    case = tmp_path / "truth" / "case01"
    write_case(case, {r: B if r == 1 else NOBODY for r in range(1, 6)})
    write(tmp_path / "predicted" / "case01" / "task01.png", 51 * np.array(B, dtype=np.uint8))
    assert scored(tmp_path / "predicted", tmp_path / "truth")[0]["qubiq_score"] == 1


def test_png_of_one_and_sixteen_bits_are_read_by_their_white(folders):
    truth, predictions, case = folders
    write(case / "task01.png", np.array([[65535, 32768, 0, 0]], dtype=np.uint16))
    write(case / "task01_seg01.png", np.array(A, dtype=bool))
    write(case / "task01_seg02.png", np.array(B, dtype=np.uint16) * 65535)
    means, _, _ = scored(predictions, truth)
    assert means["dice_heads"] == 1 and means["brier_consensus"] < 1e-9 and means["qubiq_score"] == 1


def with_slope(path, values, slope):
    """A NIfTI of integers times a scale factor."""
    nib.save(nib.Nifti1Image(np.rint(values / slope).astype(np.int16), np.eye(4)), path)
    content = bytearray(path.read_bytes())
    content[112:120] = struct.pack("<ff", slope, 0)
    path.write_bytes(content)


def scaled_by_nibabel(path, values):
    image = nib.Nifti1Image(values, np.eye(4))
    image.set_data_dtype(np.uint8)
    nib.save(image, path)


STORAGES = {
    "float32": lambda path, values: nib.save(nib.Nifti1Image(values.astype(np.float32), np.eye(4)), path),
    "float64": lambda path, values: nib.save(nib.Nifti1Image(values, np.eye(4)), path),
    "float64 of float32": lambda path, v: nib.save(nib.Nifti1Image(v.astype("f4").astype("f8"), np.eye(4)), path),
    "tenths": lambda path, values: with_slope(path, values, 0.1),
    "hundredths": lambda path, values: with_slope(path, values, 0.01),
    "thousandths": lambda path, values: with_slope(path, values, 0.001),
    "uint8": scaled_by_nibabel,
    "png8": lambda path, values: Image.fromarray(np.rint(255 * values).astype(np.uint8)).save(path),
    "png16": lambda path, values: Image.fromarray(np.rint(65535 * values).astype(np.uint16)).save(path),
}


def qubiq_of_stored_shares(folder, save, *, raters, png=False):
    """Scores of a map of the exact shares of raters, whose votes are 0 ... `raters`."""
    votes = np.arange(4 * (raters + 1)).reshape(4, -1) % (raters + 1)
    write_case(folder / "truth" / "case01", {1 + k: (votes > k).astype(np.uint8) for k in range(raters)})
    (folder / "predicted" / "case01").mkdir(parents=True)
    save(folder / "predicted" / "case01" / f"task01.{'png' if png else 'nii'}", votes / raters)
    return scored(folder / "predicted", folder / "truth")[0]


@pytest.mark.parametrize("storage", STORAGES)
def test_exact_shares_reach_the_levels_that_the_raters_reach_however_they_are_stored(tmp_path, storage):
    means = qubiq_of_stored_shares(tmp_path, STORAGES[storage], raters=10, png="png" in storage)
    assert means["qubiq_score"] == means["dice_soft"] == means["dice_consensus"] == 1
    assert means["brier_consensus"] < 1e-12


def test_shares_of_votes_are_no_tenths_stored_coarsely(tmp_path):
    means = qubiq_of_stored_shares(tmp_path, lambda path, values: with_slope(path, values, 1 / 7), raters=7)
    assert means["qubiq_score"] == means["dice_soft"] == 1
    assert means["brier_consensus"] < 1e-12


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("task01.nii.gz", np.zeros((4, 1)), "task01.nii.gz has 4 x 1 pixels, .* as if the first two axes were swapped"),
        (
            "task01.nii.gz",
            np.zeros((2, 4)),
            "has 2 x 4 pixels, but the rater's mask .*task01_seg01.nii.gz has 1 x 4",
        ),
        ("task01.nii.gz", np.array([[0, 0, np.nan, 1]]), "holds the value nan: expected probabilities"),
        ("task01.nii.gz", np.array([[0, 0, 3.5, 1]]), "holds the value 3.5: .*apply the sigmoid first"),
        ("task01.png", np.array(A, dtype=np.uint8), "grey values 0 and 1 alone: a probability of 1 is white"),
        ("task01.png", np.zeros((1, 4, 3), dtype=np.uint8), "has the colour mode RGB: save one grey channel"),
        ("task01_seg01.nii.gz", np.array([[0, 0.3, 1, 1]]), "holds the value 0.3: a mask has 0 and 1"),
        ("task01_seg01.nii.gz", np.array([[0, 1, 2, 2]]), "holds the value 1: a mask"),
        ("task01_sample1.png", np.array([[0, 9, 255, 0]], dtype=np.uint8), "holds the value 9: a mask"),
        ("task01_sample1.nii", np.array([[0, np.nan, 1, 1]]), "holds the value nan: a mask"),
        ("task_1.nii.gz", np.zeros((1, 4)), "task_1.nii.gz has the name of no prediction"),
    ],
)
def test_a_file_that_cannot_be_right_is_named(folders, name, values, sentence):
    truth, predictions, case = folders
    write(case / name, values)
    write_masks(case, {2: B})
    with pytest.raises((ImageFileError, DatasetLayoutError), match=sentence) as stop:
        scored(predictions, truth)
    assert name in str(stop.value)


@pytest.mark.parametrize("name", ["task01.nii.gz", "task01.nii", "task01_seg01.png"])
def test_a_damaged_file_is_named(folders, name):
    truth, predictions, case = folders
    case.mkdir(parents=True)
    (case / name).write_bytes(b"no picture")
    with pytest.raises(ImageFileError, match=f"cannot read .*{name}"):
        scored(predictions, truth)


def test_raters_of_different_sizes_are_named(folders):
    truth, predictions, case = folders
    write(truth / "Training" / "case01" / "task01_seg02.nii.gz", np.zeros((2, 4)))
    write_masks(case, {1: A})
    with pytest.raises(
        ImageFileError, match="task01_seg02.nii.gz has 2 x 4 pixels, but .*task01_seg01.nii.gz has 1 x 4"
    ):
        scored(predictions, truth)
