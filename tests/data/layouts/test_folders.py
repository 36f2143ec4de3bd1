from __future__ import annotations

import numpy as np
import pytest
from layout_trees import LEFT, TREES, WIDE, mask, picture

from monai_ext.data import DatasetLayoutError
from monai_ext.data.layouts import LAYOUT_READERS, mask_of
from monai_ext.data.layouts.folders import ham10000, named_parts, npz_packs, ph2, rater_folders, rater_suffixes


def masks_of(cases) -> dict:
    """Name of the case -> rater -> name of the mask."""
    known = {LEFT.tobytes(): "left", WIDE.tobytes(): "wide"}
    return {case.name: {key.rater: known[mask_of(case, key).tobytes()] for key in case.masks} for case in cases}


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("rater_folders", {"a": {"anna": "left"}, "b": {"anna": "left", "ben": "wide"}}),
        ("rater_suffixes", {name: {"rater1": "left", "rater2": "wide"} for name in "ab"}),
        ("parts", {name: {"1": "left"} for name in "cab"}),
        ("ph2", {name: {"1": "left"} for name in ("IMD002", "IMD003")}),
        ("npz", {name: {"1": "left", "2": "wide"} for name in ("test0_p3", "train0_p7", "train1_p9")}),
        ("coco", {"a": {"anna": "left", "ben": "wide"}, "b": {"anna": "left"}}),
        ("labelme", {"a": {"anna": "left", "ben": "wide"}}),
        ("monai_label", {"a": {"final": "left", "original": "wide"}}),
    ],
)
def test_each_mask_is_that_of_its_rater(layout, expected, tmp_path):
    TREES[layout](tmp_path / "set")
    assert masks_of(LAYOUT_READERS[layout](tmp_path / "set")) == expected


def test_parts_and_groups_are_kept(tmp_path):
    TREES["parts"](tmp_path / "parts")
    assert {case.name: case.part for case in named_parts(tmp_path / "parts")} == {
        "a": "training", "b": "validation", "c": "test"}  # fmt: skip
    TREES["ham10000"](tmp_path / "ham")
    assert [case.group for case in ham10000(tmp_path / "ham")] == ["HAM_1", "HAM_1", "HAM_2"]
    TREES["npz"](tmp_path / "npz")
    assert [(case.part, case.group) for case in npz_packs(tmp_path / "npz")] == [
        ("test", "3"), ("training", "7"), ("training", "9")]  # fmt: skip


def test_what_does_not_fit_is_one_sentence(tmp_path):
    TREES["rater_folders"](tmp_path / "set")
    mask(tmp_path / "set/ben/z.png", LEFT)
    with pytest.raises(DatasetLayoutError, match=r"1 masks in .* have no picture in .*images: ben/z"):
        rater_folders(tmp_path / "set")
    picture(tmp_path / "two/a.png")
    picture(tmp_path / "two/a.jpg")
    with pytest.raises(DatasetLayoutError, match="two files of the name a"):
        rater_suffixes(tmp_path / "two")
    TREES["ham10000"](tmp_path / "ham")
    picture(tmp_path / "ham/HAM10000_images_part_1/ISIC_1.jpg")
    with pytest.raises(DatasetLayoutError, match=r"1 images of HAM10000 in .* have no mask: ISIC_1"):
        ham10000(tmp_path / "ham")
    (tmp_path / "packs").mkdir()
    np.savez(tmp_path / "packs/x.npz", images=np.zeros((1, 4, 4), np.uint8))
    with pytest.raises(DatasetLayoutError, match="x.npz has images, and no images with masks or reader_bits"):
        npz_packs(tmp_path / "packs")
    (tmp_path / "packs/x.npz").write_bytes(b"no")
    with pytest.raises(DatasetLayoutError, match="cannot read .*x.npz"):
        npz_packs(tmp_path / "packs")
    assert ph2(tmp_path / "two") is None


def test_a_mask_of_another_size_is_refused(tmp_path):
    TREES["rater_folders"](tmp_path / "set")
    mask(tmp_path / "set/ben/b.png", LEFT[:4])
    case = rater_folders(tmp_path / "set")[1]
    with pytest.raises(ValueError, match=r"b.png of b by ben has 4 x 8 pixels, its picture 6 x 8"):
        [mask_of(case, key) for key in case.masks]


def test_words_that_begin_with_r_are_no_raters(tmp_path):
    for name in ("a", "a_r1", "a_r-2", "a_roi", "a_right"):
        picture(tmp_path / f"{name}.png")
    (case, *_) = rater_suffixes(tmp_path)
    assert case.name == "a" and {key.rater for key in case.masks} == {"r1", "r-2"}
