"""Decoding of photographs with their masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pictures import ORIENTATION_TAG, photograph, saved
from PIL import Image

from monai_ext.data import DecodeImaged
from monai_ext.raster.images import ImageFileError, read_image, read_mask


@pytest.fixture
def item(tmp_path):
    mask = np.zeros((30, 40), np.uint8)
    mask[10:20, 5:25] = 255
    return {
        "id": "ISIC_1",
        "image": str(saved(tmp_path / "ISIC_1.jpg", photograph(30, 40))),
        "label": str(saved(tmp_path / "ISIC_1_segmentation.png", mask)),
    }


def test_items_are_decoded_with_their_identity_and_original_size(item):
    decoded = DecodeImaged(spatial_size=(15, 20))(item)
    assert list(decoded) == ["id", "image", "label", "original_size"]
    assert decoded["id"] == "ISIC_1"
    assert decoded["image"].shape == (3, 15, 20) and decoded["label"].shape == (1, 15, 20)
    assert torch.equal(decoded["image"], read_image(item["image"], spatial_size=(15, 20)))
    assert decoded["label"].sum().item() == pytest.approx(5 * 10, abs=2)
    assert decoded["original_size"].tolist() == [30, 40]


def test_labels_may_keep_their_native_size(item):
    decoded = DecodeImaged(spatial_size=(15, 20), label_spatial_size="native")(item)
    assert decoded["image"].shape == (3, 15, 20)
    assert torch.equal(decoded["label"], read_mask(item["label"]))


def test_items_without_label_or_id_are_images_named_after_their_file(item):
    decoded = DecodeImaged()({"image": item["image"]})
    assert list(decoded) == ["id", "image", "original_size"] and decoded["id"] == "ISIC_1"


def test_paths_are_kept_on_demand(item):
    decoded = DecodeImaged(keep_paths=True)(item)
    assert (decoded["image_path"], decoded["label_path"]) == (item["image"], item["label"])
    assert "label_path" not in DecodeImaged(keep_paths=True)({"image": item["image"]})


def test_image_and_mask_of_different_size_are_both_named(item, tmp_path):
    item["label"] = str(saved(tmp_path / "other.png", np.zeros((40, 30), np.uint8)))
    with pytest.raises(ImageFileError, match="ISIC_1.jpg is 30 x 40 .* mask .*other.png is 40 x 30"):
        DecodeImaged(spatial_size=(8, 8))(item)


def test_a_rotated_photograph_fits_its_upright_mask(item, tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 8
    item["image"] = str(saved(tmp_path / "sensor.jpg", np.rot90(photograph(30, 40), -1), exif=exif))
    assert DecodeImaged()(item)["image"].shape == (3, 30, 40)


def test_settings_are_checked_at_once_and_shown(item):
    with pytest.raises(ValueError, match="label_spatial_size is 'full'"):
        DecodeImaged(label_spatial_size="full")
    with pytest.raises(ValueError, match="draft=True needs"):
        DecodeImaged(draft=True)
    text = repr(DecodeImaged([192, 256], draft=True))
    assert text == "DecodeImaged(spatial_size=(192, 256), draft=True, label_spatial_size=None, keep_paths=False)"
