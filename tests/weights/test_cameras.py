"""Kinds of camera by id and size of the original."""

from __future__ import annotations

import csv

import pytest
from PIL import Image

from monai_ext.data import assign_folds, lesion_items
from weights.cameras import camera, main

SIZES = {0: (8, 6), 999: (1024, 768), 1000: (1024, 768), 9999: (30, 20), 14557: (768, 1024), 14558: (1024, 768)}
CAMERAS = ["low_ids", "low_ids", "1024x768", "large", "large", "high_ids"]


def rows(path):
    with path.open() as table:
        return [(row["id"], row["camera"]) for row in csv.DictReader(table)]


@pytest.fixture
def data(tmp_path):
    for number, size in SIZES.items():
        for folder, mode in (("images", "RGB"), ("masks", "L")):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.new(mode, size).save(tmp_path / folder / f"ISIC_{number:07d}.png")
    return tmp_path


def test_images_are_grouped_by_their_own_sizes_or_by_those_of_the_manifest(data, tmp_path, capsys):
    expected = [(f"ISIC_{number:07d}", group) for number, group in zip(SIZES, CAMERAS, strict=True)]
    main(str(data), str(tmp_path / "own.csv"))
    assert rows(tmp_path / "own.csv") == expected
    assert capsys.readouterr().out == "1024x768 1, high_ids 1, large 2, low_ids 2\n"
    lines = [f"ISIC_{number:07d},{width},{height}" for number, (width, height) in SIZES.items()]
    (data / "manifest.csv").write_text("\n".join(["image_id,native_width,native_height", *lines]))
    for path in (data / "images").iterdir():
        Image.new("RGB", (8, 8)).save(path)  # copies in another size
    main(str(data), str(tmp_path / "manifest_sizes.csv"))
    assert rows(tmp_path / "manifest_sizes.csv") == expected


def test_the_table_leaves_each_camera_out_in_turn(data, tmp_path):
    main(str(data), str(tmp_path / "cameras.csv"))
    items = lesion_items(data)
    folds = assign_folds(items, folds=4, group=f"{tmp_path / 'cameras.csv'}:camera")
    of_camera = {}
    for (_, group), fold in zip(rows(tmp_path / "cameras.csv"), folds, strict=True):
        of_camera.setdefault(group, set()).add(fold)
    assert sorted(map(list, of_camera.values())) == [[0], [1], [2], [3]]


def test_other_names_are_refused():
    with pytest.raises(ValueError, match="invalid literal"):
        camera("photo", (8, 8))
