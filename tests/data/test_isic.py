"""Lists of images and masks from every accepted layout, and one sentence for every wrong one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from monai_ext.data.isic import DatasetLayoutError, image_items, lesion_items

IDS = ["ISIC_0000000", "ISIC_0000002", "ISIC_0000010"]
OFFICIAL = {
    2016: ("ISBI2016_ISIC_Part1_{}_Data", "ISBI2016_ISIC_Part1_{}_GroundTruth", "_Segmentation"),
    2017: ("ISIC-2017_{}_Data", "ISIC-2017_{}_Part1_GroundTruth", "_segmentation"),
    2018: ("ISIC2018_Task1-2_{}_Input", "ISIC2018_Task1_{}_GroundTruth", "_segmentation"),
}


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def official(root: Path, year: int, part: str = "Training", ids=IDS) -> None:
    images, masks, ending = OFFICIAL[year]
    touch(root / images.format(part), *(f"{i}.jpg" for i in ids))
    touch(root / masks.format(part), *(f"{i}{ending}.png" for i in ids))


def plain(root: Path, images=("a.jpg", "b.jpg"), masks=("a.png", "b.png")) -> Path:
    touch(root / "images", *images)
    touch(root / "masks", *masks)
    return root


@pytest.mark.parametrize("year", OFFICIAL)
def test_official_layouts_are_recognised(tmp_path, year):
    official(tmp_path, year)
    items = lesion_items(tmp_path)
    assert [item["id"] for item in items] == IDS
    assert all(isinstance(item[key], str) and Path(item[key]).is_file() for item in items for key in ("image", "label"))
    assert all(Path(item["label"]).stem.lower() == item["id"].lower() + "_segmentation" for item in items)


@pytest.mark.parametrize("part", ["training", "validation", "test"])
def test_parts_of_2017_are_told_apart(tmp_path, part):
    for number, name in enumerate(("Training", "Validation", "Test_v2")):
        official(tmp_path, 2017, name, [f"ISIC_{number}"])
    expected = {"training": "ISIC_0", "validation": "ISIC_1", "test": "ISIC_2"}[part]
    assert [item["id"] for item in lesion_items(tmp_path, part=part)] == [expected]


def test_folders_in_a_folder_and_zips_in_their_own_folder_are_found(tmp_path):
    official(tmp_path / "downloads", 2017)
    assert len(lesion_items(tmp_path)) == 3
    nested = tmp_path / "nested"
    touch(nested / "ISIC2018_Task1-2_Training_Input" / "ISIC2018_Task1-2_Training_Input", "a.jpg")
    touch(nested / "ISIC2018_Task1_Training_GroundTruth", "a_segmentation.png")
    assert [item["id"] for item in lesion_items(nested)] == ["a"]


def test_several_editions_must_be_chosen_from(tmp_path):
    official(tmp_path, 2017, ids=["old"])
    official(tmp_path, 2018, ids=["new"])
    with pytest.raises(DatasetLayoutError, match="ISIC 2017, 2018, which share images: choose one by edition="):
        lesion_items(tmp_path)
    assert lesion_items(tmp_path, edition=2018)[0]["id"] == "new"


def test_superpixels_hidden_and_other_files_are_never_images_or_masks(tmp_path):
    official(tmp_path, 2017)
    touch(tmp_path / "ISIC-2017_Training_Data", f"{IDS[0]}_superpixels.png", "metadata.csv", "._ISIC_0000000.jpg")
    touch(tmp_path / "ISIC-2017_Training_Part1_GroundTruth", f"{IDS[0]}_superpixels.png", ".DS_Store")
    assert [item["id"] for item in lesion_items(tmp_path)] == IDS
    assert [item["id"] for item in image_items(tmp_path / "ISIC-2017_Training_Data")] == IDS


def test_plain_masks_may_have_any_accepted_ending_and_files_any_case(tmp_path):
    masks = ["a.PNG", "b_mask.png", "c_Segmentation.bmp", "d_segmentation.png"]
    plain(tmp_path, ("c.JPG", "a.jpeg", "b.TIFF", "d.png"), masks)
    items = lesion_items(tmp_path)
    assert [item["id"] for item in items] == ["a", "b", "c", "d"]
    assert [Path(item["label"]).name for item in items] == masks


def test_images_without_masks_are_counted_and_five_are_named(tmp_path):
    plain(tmp_path, [f"i{n}.jpg" for n in range(8)], ["i7.png"])
    sentence = r"7 of the 8 images in .*images have no mask in .*masks: i0, i1, i2, i3, i4 and 2 more\."
    with pytest.raises(DatasetLayoutError, match=sentence):
        lesion_items(tmp_path)
    items = lesion_items(tmp_path, require_masks=False)
    assert [("label" in item) for item in items] == [False] * 7 + [True]


def test_masks_without_images_are_an_error_even_when_masks_are_optional(tmp_path):
    plain(tmp_path, ["a.jpg"], ["a.png", "z.png"])
    with pytest.raises(DatasetLayoutError, match=r"1 of the 2 masks in .*masks have no image in .*images: z\."):
        lesion_items(tmp_path, require_masks=False)


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        (["a.jpg", "a.png"], ["a.png"], "two images in .* have the id a: a.jpg and a.png"),
        (["a.jpg"], ["a.png", "a_mask.png"], "two masks in .* have the id a: a.png and a_mask.png"),
        ([], ["a.png"], "no image file lies in .*images"),
    ],
)
def test_ambiguous_or_empty_folders_are_refused(tmp_path, images, masks, message):
    with pytest.raises(DatasetLayoutError, match=message):
        lesion_items(plain(tmp_path, images, masks))


def test_wrong_folders_get_a_sentence_with_the_accepted_layouts(tmp_path):
    with pytest.raises(DatasetLayoutError, match="nowhere' is not a folder"):
        lesion_items(tmp_path / "nowhere")
    with pytest.raises(DatasetLayoutError, match="no training part in .*, none of the known folders; accepted are "):
        lesion_items(tmp_path)
    official(tmp_path, 2016)
    with pytest.raises(DatasetLayoutError, match="no test part in .*, only the training part of 2016; accepted"):
        lesion_items(tmp_path, part="test")
    with pytest.raises(DatasetLayoutError, match="no training part of ISIC 2018 in"):
        lesion_items(tmp_path, edition=2018)
    with pytest.raises(ValueError, match="part is 'train': choose"):
        lesion_items(tmp_path, part="train")
    with pytest.raises(ValueError, match="edition is 2019: choose"):
        lesion_items(tmp_path, edition=2019)


def test_half_a_layout_says_which_half_is_missing(tmp_path):
    touch(tmp_path / "ISIC-2017_Training_Data", "a.jpg")
    with pytest.raises(DatasetLayoutError, match="found images in .*Training_Data, but no folder of their masks"):
        lesion_items(tmp_path)
    assert lesion_items(tmp_path, require_masks=False) == [
        {"id": "a", "image": str(tmp_path / "ISIC-2017_Training_Data" / "a.jpg")}
    ]
    other = tmp_path / "other"
    touch(other / "ISIC-2017_Test_v2_Part1_GroundTruth", "a.png")
    with pytest.raises(DatasetLayoutError, match="found the masks in .*, but no folder of their images"):
        lesion_items(other, part="test")


def test_a_plain_set_has_no_test_part(tmp_path):
    with pytest.raises(DatasetLayoutError, match="one plain set, images/ with masks/, and no test part"):
        lesion_items(plain(tmp_path), part="test")


def test_image_items_take_a_file_or_the_images_of_a_folder(tmp_path):
    touch(tmp_path, "b.png", "a.JPG")
    touch(tmp_path, "a_segmentation.png", "b_mask.png", "notes.txt", ".hidden.png", "a_superpixels.png")
    assert image_items(tmp_path) == [
        {"id": "a", "image": str(tmp_path / "a.JPG")},
        {"id": "b", "image": str(tmp_path / "b.png")},
    ]
    assert image_items(tmp_path / "b.png") == [{"id": "b", "image": str(tmp_path / "b.png")}]
    touch(tmp_path, "a.tif")
    with pytest.raises(DatasetLayoutError, match="two images .* have the id a"):
        image_items(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetLayoutError, match="no image file lies in .*empty"):
        image_items(tmp_path / "empty")
    with pytest.raises(DatasetLayoutError, match="neither an image file nor a folder"):
        image_items(tmp_path / "nowhere")


@pytest.mark.skipif(not os.environ.get("MONAI_EXT_DATA"), reason="set MONAI_EXT_DATA to the folder that holds isic/")
def test_the_training_set_of_2017_has_2000_pairs():
    items = lesion_items(Path(os.environ["MONAI_EXT_DATA"]) / "isic")
    assert len(items) == len({item["id"] for item in items}) == 2000
