from __future__ import annotations

import json

import numpy as np
import pytest
from layout_trees import SIZE, SQUARE, TREES, picture

from monai_ext.data import DatasetLayoutError
from monai_ext.data.layouts import MaskKey, mask_of
from monai_ext.data.layouts.annotations import coco, label_me


def change(path, edit) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_two_categories_are_two_structures_and_two_files_two_raters(tmp_path):
    TREES["coco"](tmp_path / "set")
    file = tmp_path / "set/annotations.json"

    def edit(content):
        content["categories"].append({"id": 2, "name": "nucleus"})
        content["annotations"][2] |= {"category_id": 2}

    change(file, edit)
    cases = {case.name: set(case.masks) for case in coco(tmp_path / "set")}
    assert cases == {"a": {MaskKey("anna", "cell"), MaskKey("ben", "cell")}, "b": {MaskKey("anna", "nucleus")}}
    change(file, lambda content: [each.pop("annotator", None) for each in content["annotations"]])
    (tmp_path / "set/second.json").write_text(file.read_text())
    raters = {key.rater for case in coco(tmp_path / "set") for key in case.masks}
    assert raters == {"annotations", "second", "ben"}


def test_files_that_describe_other_pictures_are_parts_of_one_rater_and_categories_are_those_of_all_files(tmp_path):
    for name, category in (("train", 1), ("val", 2)):
        picture(tmp_path / name / f"{name}.png")
        content = {
            "images": [{"id": 1, "file_name": f"{name}.png"}],
            "categories": [{"id": 1, "name": "cell"}, {"id": 2, "name": "nucleus"}],
            "annotations": [{"image_id": 1, "category_id": category, "segmentation": [SQUARE]}],
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    cases = {case.name: set(case.masks) for case in coco(tmp_path)}
    assert cases == {"train": {MaskKey("1", "cell")}, "val": {MaskKey("1", "nucleus")}}


def test_folders_that_describe_other_pictures_are_no_raters(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / f"part_{name}" / f"{name}.png")
        shape = {"label": "x", "points": [[0, 0], [2, 2]], "shape_type": "rectangle"}
        content = {"imagePath": f"{name}.png", "imageHeight": SIZE[0], "imageWidth": SIZE[1], "shapes": [shape]}
        (tmp_path / f"part_{name}" / f"{name}.json").write_text(json.dumps(content))
    assert [set(case.masks) for case in label_me(tmp_path)] == [{MaskKey("1")}] * 2


def test_two_pictures_of_one_name_are_not_taken_for_one(tmp_path):
    TREES["coco"](tmp_path / "set")
    picture(tmp_path / "set/a.jpg")
    change(tmp_path / "set/annotations.json", lambda content: content["images"].append({"id": 9, "file_name": "a.jpg"}))
    with pytest.raises(DatasetLayoutError, match="two pictures have the name a: .*; rename one of them"):
        coco(tmp_path / "set")


def test_a_circle_has_its_area(tmp_path):
    picture(tmp_path / "a.png")
    shape = {"label": "x", "points": [[4, 3], [4, 1]], "shape_type": "circle"}
    content = {"imagePath": "a.png", "imageHeight": SIZE[0], "imageWidth": SIZE[1], "shapes": [shape]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    (case,) = label_me(tmp_path)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    assert np.array_equal(mask_of(case, MaskKey("1")), (rows - 3) ** 2 + (columns - 4) ** 2 < 4)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["annotations"][0].update(segmentation=[]), "without segmentation: boxes alone are no masks"),
        (lambda c: c["annotations"][0].update(segmentation=[SQUARE[:5]]), "a polygon of 5 numbers"),
        (lambda c: c["annotations"][1]["segmentation"].update(counts="abc"), "compressed runs"),
        (lambda c: c["annotations"][1]["segmentation"].update(counts=[1, 2]), "runs of 3 pixels for 6 x 8"),
        (lambda c: c["annotations"][0].update(image_id=99), "annotates image 99, which it does not list"),
        (lambda c: c["images"][0].update(file_name="z.png"), "the picture z.png of .* is not there"),
    ],
)
def test_coco_that_cannot_be_drawn_is_one_sentence(edit, message, tmp_path):
    TREES["coco"](tmp_path / "set")
    change(tmp_path / "set/annotations.json", edit)
    with pytest.raises(DatasetLayoutError, match=message):
        coco(tmp_path / "set")


def test_lines_of_labelme_are_no_areas_and_damaged_json_is_named(tmp_path):
    TREES["labelme"](tmp_path / "set")
    change(tmp_path / "set/ben/a.json", lambda content: content["shapes"][0].update(shape_type="line"))
    with pytest.raises(DatasetLayoutError, match="a shape of the kind 'line': areas are polygon, rectangle, circle"):
        label_me(tmp_path / "set")
    (tmp_path / "set/ben/a.json").write_text("{")
    with pytest.raises(DatasetLayoutError, match=r"cannot read .*a\.json as JSON"):
        label_me(tmp_path / "set")
