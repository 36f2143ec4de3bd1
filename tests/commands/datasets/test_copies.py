"""Data sets of other layouts as evaluation and `score` read them."""

from __future__ import annotations

import numpy as np
import pytest
from layout_trees import LEFT, TREES, mask, picture

from monai_ext.commands.datasets.copies import readable_copy
from monai_ext.data import DatasetLayoutError, lesion_items, rater_truth
from monai_ext.data.raters.decoding import DecodeRaters
from monai_ext.raster.masks import read_mask


@pytest.mark.parametrize(("layout", "names"), [("ph2", ["IMD002", "IMD003"]), ("parts", ["c"])])
def test_a_layout_is_found_and_its_test_part_taken_where_it_has_one(layout, names, tmp_path, capsys):
    TREES[layout](tmp_path / "set")
    copy = readable_copy(tmp_path / "set", tmp_path / "copies/set", "lesion")
    items = lesion_items(copy)
    assert copy == tmp_path / "copies/set" and [item["id"] for item in items] == names
    assert all(np.array_equal(read_mask(item["label"])[0].numpy(), LEFT) for item in items)
    assert f"{len(names)} cases of {tmp_path / 'set'}, read as {layout}" in capsys.readouterr().err


def test_another_part_is_taken_when_named(tmp_path):
    TREES["parts"](tmp_path / "set")
    copy = readable_copy(tmp_path / "set", tmp_path / "copy", "lesion", part="validation")
    assert [item["id"] for item in lesion_items(copy)] == ["b"]
    TREES["ph2"](tmp_path / "ph2")
    with pytest.raises(DatasetLayoutError, match="no case of .* is of the part test: it has no parts"):
        readable_copy(tmp_path / "ph2", tmp_path / "other", "lesion", part="test")


@pytest.mark.parametrize("layout", ["coco", "npz", "rater_folders"])
def test_masks_of_several_raters_are_in_one_part(layout, tmp_path):
    TREES[layout](tmp_path / "set")
    copy = readable_copy(tmp_path / "set", tmp_path / "copy", "raters")
    ((task, items),) = rater_truth(copy, part="Testing").items()
    assert task == 1 and len(items) == (1 if layout == "npz" else 2)  # the packs have a test part
    assert DecodeRaters()(items[0])["label"].shape[-2:] == LEFT.T.shape  # NIfTI has columns first
    with pytest.raises(DatasetLayoutError, match="has masks of 2 raters, and this run predicts one mask"):
        readable_copy(tmp_path / "set", tmp_path / "one", "lesion")


def test_what_is_read_directly_or_by_nothing_is_not_copied(tmp_path):
    picture(tmp_path / "plain/images/a.png")
    mask(tmp_path / "plain/masks/a.png", LEFT)
    (tmp_path / "raters/case1").mkdir(parents=True)
    (tmp_path / "raters/case1/task01_seg01.nii.gz").touch()
    (tmp_path / "nothing").mkdir()
    for name, kind in (("plain", "lesion"), ("raters", "raters"), ("nothing", "lesion"), ("absent", "raters")):
        assert readable_copy(tmp_path / name, tmp_path / "copy", kind) == tmp_path / name
    assert not (tmp_path / "copy").exists()


def test_a_copy_is_used_again_until_the_data_change_and_nothing_else_is_removed(tmp_path, capsys):
    TREES["ph2"](tmp_path / "set")
    copy = readable_copy(tmp_path / "set", tmp_path / "copy", "lesion")
    stamp = (copy / "masks/IMD002.png").stat().st_mtime_ns
    assert readable_copy(tmp_path / "set", copy, "lesion") == copy and "from its copy" in capsys.readouterr().err
    assert (copy / "masks/IMD002.png").stat().st_mtime_ns == stamp
    mask(tmp_path / "set/PH2 Dataset images/IMD002/IMD002_lesion/IMD002_lesion.bmp", 1 - LEFT)
    readable_copy(tmp_path / "set", copy, "lesion")
    assert np.array_equal(read_mask(copy / "masks/IMD002.png")[0].numpy(), 1 - LEFT)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").touch()
    with pytest.raises(DatasetLayoutError, match="holds something else: move it"):
        readable_copy(tmp_path / "set", tmp_path / "mine", "lesion")
    assert readable_copy(tmp_path / "set", tmp_path / "mine", "lesion", dry_run=True) == tmp_path / "mine"


def test_a_copy_of_what_one_file_describes_depends_on_its_pictures_and_nothing_beside_them(tmp_path, capsys):
    TREES["coco"](tmp_path / "set")
    (source,) = (tmp_path / "set").glob("*.json")
    copy = readable_copy(source, tmp_path / "copy", "raters")
    (tmp_path / "set/notes.txt").touch()
    picture(tmp_path / "set/pictures/other.png")
    capsys.readouterr()
    readable_copy(source, copy, "raters")
    assert "is read from its copy" in capsys.readouterr().err
    picture(tmp_path / "set/pictures/a.png", seed=1)
    readable_copy(source, copy, "raters")
    assert "is read from its copy" not in capsys.readouterr().err
