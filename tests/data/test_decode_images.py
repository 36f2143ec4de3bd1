"""Decoding of photographs with their masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pictures import ORIENTATION_TAG, photograph, saved
from PIL import Image

from monai_ext.data import DecodeImaged, duplicate_groups, lesion_items
from monai_ext.raster.images import ImageFileError, read_image
from monai_ext.raster.masks import read_mask


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


def test_a_photograph_turned_without_its_mask_is_named(item, tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    turned = str(saved(tmp_path / "turned.jpg", photograph(30, 40), exif=exif))
    with pytest.raises(ImageFileError, match="40 x 30 pixels .* 30 x 40: the photograph is turned by its EXIF"):
        DecodeImaged()({**item, "image": turned})


def test_keys_that_it_does_not_know_stay(item):
    further = {"patient": "p1", "model": {"name": "x"}, "age": None}
    decoded = DecodeImaged(keep_paths=True)({**item, **further, "label_values": 255})
    assert {key: decoded[key] for key in further} == further
    assert "label_values" not in decoded and decoded["label"].shape[0] == 1


def test_a_label_chooses_the_foreground_of_a_whole_set(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    values = np.zeros((30, 40), np.uint8)
    values[5:25, 5:35] = 100
    values[10:20, 10:30] = 200
    Image.fromarray(values).save(tmp_path / "images" / "a.png")
    Image.fromarray(values).save(tmp_path / "masks" / "a.png")
    with pytest.raises(ImageFileError, match="several structures"):
        DecodeImaged()(lesion_items(tmp_path)[0])
    shares = [DecodeImaged()(lesion_items(tmp_path, labels=label)[0])["label"].sum().item() for label in (100, 200)]
    assert shares == [400, 200]
    assert duplicate_groups(lesion_items(tmp_path, labels=100), cache_dir=tmp_path / "cache") == ["a"]
