"""Listing of cases with several raters, and their folds."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from rater_cases import RAMP, decode_one, file_names, save_nifti_array, square, volume, write_case

from monai_ext.data.device.cache_file import file_key
from monai_ext.data.isic import DatasetLayoutError
from monai_ext.data.raters.decoding import DecodeRaters
from monai_ext.data.raters.qubiq import identified_raters, qubiq_items


def test_cases_come_in_natural_order_whatever_their_names(tmp_path):
    for name in ("case10", "case2", "case1-1", "case1-10", "case1-2"):
        write_case(tmp_path / "kidney" / "Training" / name)
    items = qubiq_items(tmp_path, region="kidney")
    assert [item["id"] for item in items] == ["case1-1", "case1-2", "case1-10", "case2", "case10"]
    assert items == qubiq_items(tmp_path / "kidney") == qubiq_items(tmp_path / "kidney", part="training")


def test_the_rater_is_the_number_in_the_name_and_keeps_the_column_where_others_are_missing(tmp_path):
    write_case(tmp_path / "Training" / "case01", raters=(3, 1))
    write_case(tmp_path / "Training" / "case02", raters=(2, 3))
    write_case(tmp_path / "Validation" / "case03", raters=(12, 3))
    first, second = qubiq_items(tmp_path)
    assert first["raters"] == second["raters"] == [1, 2, 3, 12]
    assert file_names(first["label"]) == ["task01_seg01.nii.gz", None, "task01_seg03.nii.gz", None]
    assert file_names(second["label"]) == [None, "task01_seg02.nii.gz", "task01_seg03.nii.gz", None]
    decoded = DecodeRaters()(second)
    assert decoded["presence"].tolist() == [False, True, True, False]
    assert decoded["label"].sum((1, 2)).tolist() == [0, 4, 9, 0]
    assert identified_raters([first, second]) == [1, 2, 3, 12]


def test_the_columns_can_be_given_for_parts_that_lie_apart(tmp_path):
    write_case(tmp_path / "case01", raters=(1, 3))
    (item,) = qubiq_items(tmp_path, raters=[3, 2, 1])
    assert file_names(item["label"]) == ["task01_seg03.nii.gz", None, "task01_seg01.nii.gz"]
    with pytest.raises(DatasetLayoutError, match=r"raters 7, 8 marked nothing in .*, only 1, 3 did"):
        qubiq_items(tmp_path, raters=[7, 8])
    with pytest.raises(ValueError, match="raters is .*: give different numbers"):
        qubiq_items(tmp_path, raters=[1, 1])


def test_each_task_has_its_own_masks_and_ids(tmp_path):
    write_case(tmp_path / "case01", raters=(1, 2))
    write_case(tmp_path / "case01", raters=(2, 5), task=3, image=None)
    (one,), (three,) = qubiq_items(tmp_path), qubiq_items(tmp_path, task=3)
    assert (one["id"], one["raters"], three["id"], three["raters"]) == (
        "case01_task01",
        [1, 2],
        "case01_task03",
        [2, 5],
    )
    assert one["case"] == three["case"] == "case01"
    with pytest.raises(DatasetLayoutError, match="nobody marked task 2 in .*, only 1, 3: choose task="):
        qubiq_items(tmp_path, task=2)


def test_a_part_without_masks_can_be_listed_to_predict(tmp_path):
    write_case(tmp_path / "Training" / "case01", raters=(1, 2))
    write_case(tmp_path / "Testing" / "case02", raters=())
    (item,) = qubiq_items(tmp_path, part="Testing", require_masks=False)
    assert item["label"] == [None, None] and item["raters"] == [1, 2]
    decoded = DecodeRaters()(item)
    assert not decoded["presence"].any() and decoded["label"].shape == (2, 4, 5) and not decoded["label"].any()
    with pytest.raises(DatasetLayoutError, match=r"case02 has no mask of task 1 .* task01_seg01.nii.gz, .*=False"):
        qubiq_items(tmp_path, part="Testing")

    shutil.rmtree(tmp_path / "Training")
    (item,) = qubiq_items(tmp_path, part="Testing", require_masks=False)
    assert "label" not in item and "raters" not in item
    assert not {"label", "presence"} & set(DecodeRaters()(item))
    with pytest.raises(DatasetLayoutError, match="no rater file lies in the cases of"):
        qubiq_items(tmp_path, part="Testing")
    with pytest.raises(ValueError, match="case02 has no raters"):
        identified_raters([item])


def test_a_folder_of_cases_counts_as_the_part_that_it_is_named_after(tmp_path):
    write_case(tmp_path / "Training" / "case01", raters=(1, 2, 3))
    write_case(tmp_path / "Validation" / "case02", raters=(1, 2))
    (item,) = qubiq_items(tmp_path / "Validation", part="Validation")
    assert item["raters"] == [1, 2, 3]  # the raters of the region, as from its own folder
    assert qubiq_items(tmp_path / "Validation", part="Training")[0]["case"] == "case01"
    write_case(tmp_path / "plain" / "case03")
    with pytest.raises(DatasetLayoutError, match="plain has no validation part, only: training"):
        qubiq_items(tmp_path / "plain", part="Validation")


def test_hidden_and_other_files_are_passed_over(tmp_path):
    folder = write_case(tmp_path / "case01")
    for name in ("._image.nii.gz", ".DS_Store", "task01.nii.gz", "task01_seg01.png", "notes.txt"):
        (folder / name).write_text("nothing")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / ".git").mkdir()
    (item,) = qubiq_items(tmp_path)
    assert item["raters"] == [1, 2]


def test_uncompressed_files_are_accepted(tmp_path):
    save_nifti_array(tmp_path / "case01" / "image.nii", RAMP)
    save_nifti_array(tmp_path / "case01" / "task1_seg4.nii", square())
    decoded = decode_one(tmp_path)
    assert decoded["label"].sum() == 4 and torch.equal(decoded["image"][0], torch.from_numpy(RAMP).float())


def test_a_case_without_image_is_named(tmp_path):
    write_case(tmp_path / "case01")
    write_case(tmp_path / "case02", image=None)
    with pytest.raises(DatasetLayoutError, match=r"case02 has no image: expected image.nii.gz beside 2 rater files"):
        qubiq_items(tmp_path)


def test_two_files_for_one_thing_are_named(tmp_path):
    folder = write_case(tmp_path / "case01")
    save_nifti_array(folder / "task1_seg2.nii.gz", square())
    with pytest.raises(DatasetLayoutError, match=r"two masks of rater 2 for task 1: task01_seg02.nii.gz and task1_"):
        qubiq_items(tmp_path)
    (folder / "task1_seg2.nii.gz").unlink()
    save_nifti_array(folder / "image.nii", RAMP)
    with pytest.raises(DatasetLayoutError, match=r"two images: image.nii and image.nii.gz"):
        qubiq_items(tmp_path)


def test_other_folders_are_refused_with_the_way_out(tmp_path):
    with pytest.raises(
        DatasetLayoutError, match="no cases in .*; expected is <region>/Training/case01/image.nii.gz .*convert"
    ):
        qubiq_items(tmp_path)
    with pytest.raises(DatasetLayoutError, match="'/nowhere' is not a folder"):
        qubiq_items("/nowhere")
    write_case(tmp_path / "kidney" / "Training" / "case01")
    write_case(tmp_path / "pancreas" / "case1-1")
    with pytest.raises(DatasetLayoutError, match="holds the regions kidney, pancreas: choose one by region="):
        qubiq_items(tmp_path)
    with pytest.raises(DatasetLayoutError, match="no region 'liver', only kidney, pancreas"):
        qubiq_items(tmp_path, region="liver")
    with pytest.raises(DatasetLayoutError, match="has no testing part, only: training"):
        qubiq_items(tmp_path / "kidney", part="Testing")
    with pytest.raises(ValueError, match="part is 'test': choose 'Training'"):
        qubiq_items(tmp_path, part="test")
    (tmp_path / "empty" / "Training").mkdir(parents=True)
    with pytest.raises(DatasetLayoutError, match="no case folder lies in .*Training"):
        qubiq_items(tmp_path, region="empty")


def test_anonymous_raters_cannot_be_trained_one_by_one(tmp_path):
    write_case(tmp_path / "case01")
    items = qubiq_items(tmp_path, anonymous=True)
    assert DecodeRaters()(items[0])["label"].shape == (2, 4, 5)
    with pytest.raises(
        ValueError, match="case01 are anonymous: the first of one case is another person .* anonymous=F"
    ):
        identified_raters(items)


def test_items_of_different_columns_are_not_mixed(tmp_path):
    write_case(tmp_path / "a" / "case01", raters=(1, 2))
    write_case(tmp_path / "b" / "case02", raters=(1, 3))
    items = qubiq_items(tmp_path / "a") + qubiq_items(tmp_path / "b")
    with pytest.raises(ValueError, match=r"case02 has the raters \[1, 3\], the cases before \[1, 2\]: .* raters="):
        identified_raters(items)
    with pytest.raises(ValueError, match="no items"):
        identified_raters([])


def test_a_changed_mask_makes_the_decoded_file_stale(tmp_path):
    folder = write_case(tmp_path / "case01")
    before = file_key(qubiq_items(tmp_path), DecodeRaters())
    save_nifti_array(folder / "task01_seg02.nii.gz", np.random.default_rng(0).integers(0, 2, (4, 5), dtype=np.uint8))
    after = file_key(qubiq_items(tmp_path), DecodeRaters())
    assert before.name == after.name and before.fingerprint != after.fingerprint
    assert file_key(qubiq_items(tmp_path), DecodeRaters(normalise="zscore")).name != before.name


def test_a_volume_gives_one_item_for_each_slice(tmp_path):
    image = volume(tmp_path)
    items = qubiq_items(tmp_path, slices=True)
    assert [item["id"] for item in items] == ["case1-1_z000", "case1-1_z001", "case1-1_z002"]
    for z, item in enumerate(items):
        decoded = DecodeRaters(dtype=torch.int16)(item)
        assert torch.equal(decoded["image"][0], torch.from_numpy(image[..., z].copy()))
        assert decoded["label"].sum((1, 2)).tolist() == [(1 + z) ** 2, (2 + z) ** 2]
