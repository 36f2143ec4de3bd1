"""Predictions as MONAI Label's writer takes them."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch

from monai_ext.transforms import LabelMapd, TakeMapd

PROBABILITY = torch.tensor([[[0.2, 0.5, 0.7], [0.9, 0.1, 0.6]]])  # (1, 2 rows, 3 columns)


def test_the_label_of_a_photograph_has_its_columns_first():
    item = LabelMapd("pred")({"pred": PROBABILITY, "image_path": "a.png", "image": torch.zeros(3, 2, 3)})
    assert item["pred"].dtype == np.uint8 and item["pred"].tolist() == [[0, 1], [0, 0], [1, 1]]
    assert "image_meta_dict" not in item


def test_the_label_of_a_volume_file_lies_where_the_image_lies(tmp_path):
    affine = np.array([[0, 2.0, 0, 5], [3, 0, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 1), np.uint8), affine), tmp_path / "a.nii.gz")
    given = {"pred": PROBABILITY, "image": str(tmp_path / "a.nii.gz")}
    item = LabelMapd("pred", threshold=0.65, as_stored=True)(given)
    assert item["pred"].shape == (2, 3, 1) and item["pred"][..., 0].tolist() == [[0, 0, 1], [1, 0, 0]]
    assert LabelMapd("pred", threshold=0.65)(given)["pred"][..., 0].tolist() == [[0, 1], [0, 0], [1, 0]]
    assert np.array_equal(item["image_meta_dict"]["original_affine"], affine)


def test_one_map_is_taken_of_a_prediction_that_holds_several():
    step = TakeMapd("pred", name="probability")
    assert step({"pred": {"pred": 1, "probability": 2}})["pred"] == 2
    assert step({"pred": PROBABILITY})["pred"] is PROBABILITY
    with pytest.raises(KeyError):
        step({"pred": {"pred": 1}})
