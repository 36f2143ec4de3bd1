"""`convert`: what it writes is what training reads, mask by mask."""

from __future__ import annotations

import csv

import nibabel as nib
import numpy as np
import pytest
from layout_trees import LEFT, TREES, WIDE
from PIL import Image

from monai_ext.__main__ import main
from monai_ext.data import DatasetLayoutError, lesion_items, qubiq_items, split_by_fold
from monai_ext.data.raters.decoding import DecodeRaters
from monai_ext.raster.masks import read_mask


def rows(path) -> list[dict]:
    return list(csv.DictReader(path.open()))


@pytest.mark.parametrize("layout", ["parts", "ph2", "ham10000"])
def test_one_mask_for_each_picture_becomes_images_and_masks(layout, tmp_path, capsys):
    TREES[layout](tmp_path / "set")
    assert main(["convert", str(tmp_path / "set"), "--output_dir", str(tmp_path / "out")]) == 0
    assert f"read as {layout}" in capsys.readouterr().err
    items = lesion_items(tmp_path / "out")
    assert items and all(np.array_equal(read_mask(item["label"])[0].numpy(), LEFT) for item in items)


def test_parts_and_groups_become_a_split_file(tmp_path):
    TREES["parts"](tmp_path / "set")
    main(["convert", str(tmp_path / "set"), "--output_dir", str(tmp_path / "out")])
    divided = split_by_fold(lesion_items(tmp_path / "out"), 0, split_file=tmp_path / "out/split.csv")
    assert {part: [item["id"] for item in items] for part, items in divided.items()} == {
        "training": ["a"], "validation": ["b"]}  # fmt: skip
    TREES["ham10000"](tmp_path / "ham")
    main(["convert", str(tmp_path / "ham"), "--output_dir", str(tmp_path / "hams")])
    folds = split_by_fold(lesion_items(tmp_path / "hams"), 0, folds=2, group=f"{tmp_path / 'hams/split.csv'}:group")
    assert sorted(len(items) for items in folds.values()) == [1, 2]


@pytest.mark.parametrize("layout", ["rater_folders", "rater_suffixes", "npz", "coco", "labelme", "monai_label"])
def test_masks_of_several_raters_become_cases(layout, tmp_path):
    TREES[layout](tmp_path / "set")
    assert main(["convert", str(tmp_path / "set"), "--output_dir", str(tmp_path / "out"), "--layout", layout]) == 0
    items = qubiq_items(tmp_path / "out")
    decoded = DecodeRaters(normalise="minmax")(items[-1])
    masks = decoded["label"].numpy().transpose(0, 2, 1)  # files have the column first
    assert decoded["image"].shape[-2:] == LEFT.T.shape
    for mask, present, expected in zip(masks, decoded["presence"], (LEFT, WIDE), strict=True):
        assert not present or np.array_equal(mask, expected)
    assert decoded["presence"][0]


def test_names_of_raters_and_structures_are_kept(tmp_path):
    TREES["coco"](tmp_path / "set")
    main(["convert", str(tmp_path / "set"), "--output_dir", str(tmp_path / "out")])
    assert rows(tmp_path / "out/raters.csv") == [{"number": "1", "name": "anna"}, {"number": "2", "name": "ben"}]
    assert not (tmp_path / "out/tasks.csv").exists() and not (tmp_path / "out/split.csv").exists()


def test_structures_of_one_rater_become_a_label_map_or_tasks(tmp_path):
    TREES["labelme"](tmp_path / "set")
    (tmp_path / "set/anna/a.json").write_text((tmp_path / "set/ben/a.json").read_text().replace("cell", "disc"))
    (tmp_path / "set/ben/a.json").unlink()
    file = tmp_path / "set/anna/a.json"
    text = file.read_text()
    file.write_text(text.replace('"shapes": [', '"shapes": [{"label": "cup", "points": [[6, 5], [8, 6]], '
                                 '"shape_type": "rectangle"}, '))  # fmt: skip
    main(["convert", str(tmp_path / "set"), "--output_dir", str(tmp_path / "out")])
    labels = np.asarray(Image.open(tmp_path / "out/masks/a.png"))
    assert np.array_equal(labels == 2, WIDE) and labels[5, 6:].tolist() == [1, 1]
    assert rows(tmp_path / "out/labels.csv") == [{"value": "1", "name": "cup"}, {"value": "2", "name": "disc"}]
    file.write_text(file.read_text().replace("[[6, 5], [8, 6]]", "[[2, 2], [4, 4]]"))
    with pytest.raises(DatasetLayoutError, match="disc of a overlaps another structure"):
        main(["convert", str(tmp_path / "set"), "--output_dir", str(tmp_path / "overlap")])
    main(["convert", str(tmp_path / "set"), "--output_dir", str(tmp_path / "tasks"), "--raters"])
    assert [row["name"] for row in rows(tmp_path / "tasks/tasks.csv")] == ["cup", "disc"]
    assert qubiq_items(tmp_path / "tasks", tasks=[1, 2])[0]["structures"]


def test_volumes_are_copied_with_their_place(tmp_path):
    affine = np.diag([0.5, 0.5, 3, 1])
    for name in ("", "labels/final/", "labels/original/"):
        (tmp_path / "set" / name).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.ones((3, 4, 5), np.uint8), affine), tmp_path / "set" / f"{name}v.nii.gz")
    main(["convert", str(tmp_path / "set"), "--output_dir", str(tmp_path / "out")])
    stored = nib.load(tmp_path / "out/Training/v/task01_seg02.nii.gz")
    assert stored.shape == (3, 4, 5) and np.array_equal(stored.affine, affine)


def test_a_folder_that_is_there_is_not_written_into(tmp_path, capsys):
    TREES["ph2"](tmp_path / "set")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.txt").write_text("")
    with pytest.raises(SystemExit, match="2"):
        main(["convert", str(tmp_path / "set"), "--output_dir", str(tmp_path / "out")])
    assert "is there already: choose a new folder" in capsys.readouterr().err
