"""Pictures to predict raters' masks for."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from rater_cases import volume
from scored_folders import write, write_case

from monai_ext.data import DatasetLayoutError, ImageFileError, write_rater_phantoms
from monai_ext.data.raters.images import DecodeRaterImages, case_image, rater_image_items, read_grey
from monai_ext.data.raters.qubiq import qubiq_items


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_rater_phantoms(folder, count=3, size=(32, 32))
    return folder


def test_pictures_of_all_kinds_are_listed_by_name(tmp_path):
    from PIL import Image

    Image.new("L", (6, 4)).save(tmp_path / "b.png")
    nib.save(nib.Nifti1Image(np.ones((4, 6), np.float32), np.eye(4)), tmp_path / "a.nii.gz")
    (tmp_path / "notes.txt").write_text("no picture")
    items = rater_image_items(tmp_path, task=2)
    assert [(item["id"], item["task"]) for item in items] == [("a", 2), ("b", 2)]
    assert rater_image_items(tmp_path / "b.png")[0]["id"] == "b"
    Image.new("L", (6, 4)).save(tmp_path / "a.jpg")
    with pytest.raises(DatasetLayoutError, match="two pictures of the name a"):
        rater_image_items(tmp_path)


def test_cases_are_listed_with_or_without_masks_and_one_of_several_parts_is_asked_for(phantoms, tmp_path):
    assert [item["case"] for item in rater_image_items(phantoms)] == ["case01", "case02", "case03"]
    for part in ("Training", "Testing"):
        case = tmp_path / part / f"{part}1"
        case.mkdir(parents=True)
        nib.save(nib.Nifti1Image(np.ones((4, 6), np.float32), np.eye(4)), case / "image.nii.gz")
    with pytest.raises(DatasetLayoutError, match="testing, training: choose one by part="):
        rater_image_items(tmp_path)
    assert [item["case"] for item in rater_image_items(tmp_path, part="Testing")] == ["Testing1"]


def test_a_photograph_becomes_its_luminance_or_its_colours(tmp_path):
    from PIL import Image

    Image.new("RGB", (6, 4), (200, 100, 50)).save(tmp_path / "c.png")
    item = {"id": "c", "image": str(tmp_path / "c.png")}
    grey = DecodeRaterImages(in_channels=1)(item)
    assert grey["image"].shape == (1, 4, 6) and grey["original_size"].tolist() == [4, 6] and "label" not in grey
    assert grey["image"].unique().tolist() == [124.0]  # 0.299 200 + 0.587 100 + 0.114 50 = 124.2
    assert torch.equal(read_grey(item["image"]), grey["image"])
    colours = DecodeRaterImages(in_channels=3, spatial_size=(2, 2))(item)["image"]
    assert colours.shape == (3, 2, 2) and colours[:, 0, 0].tolist() == [200.0, 100.0, 50.0]


def test_another_number_of_channels_than_the_networks_is_named(phantoms):
    item = rater_image_items(phantoms)[0]
    with pytest.raises(ImageFileError, match="case01.*has 1 channel.*takes 4: set in_channels=1"):
        DecodeRaterImages(in_channels=4)(item)


def test_volumes_without_a_case_folder_are_listed_by_slices(tmp_path):
    from PIL import Image

    values = np.arange(4 * 6 * 3, dtype=np.float32).reshape(4, 6, 3)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "scan.nii.gz")
    Image.new("L", (6, 4)).save(tmp_path / "photograph.png")
    with pytest.raises(ImageFileError, match="list the slices of a volume with slices=True"):
        DecodeRaterImages()(rater_image_items(tmp_path)[1])
    items = rater_image_items(tmp_path, slices=True)
    assert [item["id"] for item in items] == ["photograph", "scan_z000", "scan_z001", "scan_z002"]
    assert np.array_equal(DecodeRaterImages()(items[2])["image"][0], values[:, :, 1])
    assert [item["slice"] for item in rater_image_items(tmp_path / "scan.nii.gz", slices="True")] == [0, 1, 2]


def test_the_image_of_a_case_has_its_channels_first(tmp_path):
    folder = write_case(tmp_path / "a" / "case01", {1: np.ones((4, 5), np.uint8), 2: np.ones((4, 5), np.uint8)})
    write(folder / "image.nii.gz", np.stack([np.full((4, 5), level) for level in (1.0, 3.0)], -1))
    (item,) = qubiq_items(tmp_path / "a")
    np.testing.assert_array_equal(case_image(item, (4, 5)), np.broadcast_to([[[1]], [[3]]], (2, 4, 5)))
    assert case_image(item, (7, 5)).shape == (1, 7, 5) and not case_image(item, (7, 5)).any()
    volume(tmp_path / "b")
    image = case_image(qubiq_items(tmp_path / "b")[0], (4, 5, 3))
    assert image.shape == (1, 4, 5, 3) and image.max() == 59
