"""Masks of raters as 0 and 1: which values are allowed, and which are chosen."""

from __future__ import annotations

import numpy as np
import pytest
from rater_cases import decode_one, save_nifti_array, square, write_case

from monai_ext.data.raters.decoding import DecodeRaters
from monai_ext.data.raters.masks import read_rater_mask
from monai_ext.data.raters.qubiq import qubiq_items
from monai_ext.raster.images import ImageFileError


def test_masks_of_255_and_empty_ones_are_masks(tmp_path):
    write_case(tmp_path / "case01", masks={1: square(value=255), 2: square(side=0)})
    decoded = decode_one(tmp_path)
    assert decoded["label"].sum((1, 2)).tolist() == [4, 0] and decoded["label"].max() == 1
    assert decoded["presence"].tolist() == [True, True]


@pytest.mark.parametrize(
    ("value", "named"), [(0.4, "0.4"), (2, "2"), (-1, "-1"), (254, "254"), (np.nan, "nan"), (np.inf, "inf")]
)
def test_other_values_in_a_mask_are_refused_with_its_file(tmp_path, value, named):
    write_case(tmp_path / "case01", masks={1: square(), 2: square(value=value, dtype=np.float32)})
    with pytest.raises(ImageFileError, match=rf"task01_seg02.nii.gz holds the value {named}: a mask has 0 and 1"):
        decode_one(tmp_path)


def test_1_and_255_in_one_mask_are_two_labels(tmp_path):
    mask = square(value=255)
    mask[3, 3] = 1
    with pytest.raises(ImageFileError, match="holds the value 1: "):
        read_rater_mask(save_nifti_array(tmp_path / "a.nii.gz", mask))


@pytest.mark.parametrize(("label", "counts"), [(1, [1, 4]), (2, [3, 5]), ([1, 2], [4, 9])])
def test_a_label_chooses_among_the_values_of_the_masks(tmp_path, label, counts):
    masks = {1: square(side=2, value=2), 2: square(side=3, value=2)}
    for side, mask in masks.items():
        mask[:side, :side] = 1
    write_case(tmp_path / "case01", masks=masks)
    with pytest.raises(ImageFileError, match=r"task01_seg01.nii.gz holds the value 1: .*by labels"):
        decode_one(tmp_path)
    (item,) = qubiq_items(tmp_path, labels=label)
    assert DecodeRaters()(item)["label"].sum((1, 2)).tolist() == counts


def test_a_label_that_is_no_number_is_refused(tmp_path):
    write_case(tmp_path / "case01")
    (item,) = qubiq_items(tmp_path, labels="alpha")
    with pytest.raises(ImageFileError, match="holds numbers, and the label alpha is none"):
        DecodeRaters()(item)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
def test_white_is_255_in_every_type(tmp_path, dtype):
    path = save_nifti_array(tmp_path / "m.nii.gz", square(side=2, value=255, dtype=dtype))
    assert np.array_equal(read_rater_mask(path), square(side=2))
