"""Files that a reader passes over: counted and named in one line, or an error where they are nearly what is read."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image
from rater_cases import write_case

from monai_ext.data import DatasetLayoutError, image_items, lesion_items, qubiq_items, rater_image_items, tile_items
from monai_ext.data.raters.predictions import rater_predictions, rater_truth


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    return path


def empty(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def lines(caplog, read, *, level=logging.WARNING):
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="monai_ext"):
        read()
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def lesions(folder):
    for name in ("a", "b"):
        picture(folder / "images" / f"{name}.png")
        picture(folder / "masks" / f"{name}.png")
    return folder


def test_photographs_of_unread_formats_and_folders_are_warned_of(tmp_path, caplog):
    lesions(tmp_path)
    folder = tmp_path / "images"
    empty(folder / "c.heic", folder / "d.heic", folder / "e.avif", folder / "old" / "f.png", folder / "Thumbs.db")
    expected = f"passed over in {folder}: 2 files in .heic (c.heic, d.heic), 1 file in .avif (e.avif), 1 folder (old)"
    assert lines(caplog, lambda: lesion_items(tmp_path)) == [expected]
    assert lines(caplog, lambda: lesion_items(tmp_path)) == []  # once
    picture(folder / "a_mask.jpg")
    (line,) = lines(caplog, lambda: image_items(folder))
    assert "1 file in .jpg (a_mask.jpg)" in line


def test_what_belongs_to_a_data_set_is_no_warning(tmp_path, caplog):
    lesions(tmp_path)
    folder = tmp_path / "images"
    empty(folder / "a_superpixels.png", folder / "LICENSE.txt", folder / ".hidden")
    assert lines(caplog, lambda: lesion_items(tmp_path)) == []
    empty(folder / "notes.csv")
    (line,) = lines(caplog, lambda: lesion_items(tmp_path), level=logging.INFO)
    assert "(a_superpixels.png)" in line and "(LICENSE.txt)" in line and "hidden" not in line


@pytest.mark.parametrize(
    "name",
    [
        "task01_seg03_corrected.nii.gz", "task01_seg03 (1).nii.gz", "task01-seg03.nii.gz", "task01_seg03.nii.gz.part",
        "Task 1 seg3.nii.gz", "case01_task01_seg03.nii.gz", "task01_seg3.png", "seg03.nii.gz", "task01_seg.nii.gz",
    ],
)  # fmt: skip
def test_almost_the_name_of_a_mask_is_an_error(tmp_path, name):
    write_case(tmp_path / "case01")
    empty(tmp_path / "case01" / name)
    with pytest.raises(DatasetLayoutError, match="has almost the name of a rater's mask: expected is task01_seg03"):
        qubiq_items(tmp_path)


def test_other_files_of_cases_are_counted_and_a_missing_image_names_what_is_there(tmp_path, caplog):
    write_case(tmp_path / "case01")
    write_case(tmp_path / "case02", image=None)
    empty(tmp_path / "case02" / "image (1).nii.gz")
    with pytest.raises(DatasetLayoutError, match=r"expected image.nii.gz beside 2 rater files; there are image \(1\)"):
        qubiq_items(tmp_path)
    write_case(tmp_path / "case02")
    empty(tmp_path / "case01" / "consensus.nrrd", tmp_path / "stray.nii.gz", tmp_path / "case01" / "task01_seg01.json")
    (line,) = lines(caplog, lambda: qubiq_items(tmp_path))
    for part in ("(image (1).nii.gz, stray.nii.gz)", "(consensus.nrrd)", "1 file in .json (task01_seg01.json)"):
        assert part in line


def test_tiles_pictures_and_predictions_say_what_they_pass_over(tmp_path, caplog):
    picture(tmp_path / "tiles" / "1" / "2" / "3.png")
    empty(tmp_path / "tiles" / "1" / "2" / "4.jp2")
    (line,) = lines(caplog, lambda: tile_items(tmp_path / "tiles"))
    assert line.endswith("1 file in .jp2 (4.jp2)")
    picture(tmp_path / "scans" / "a.png")
    empty(tmp_path / "scans" / "b.mhd", tmp_path / "scans" / "more" / "c.png")
    (line,) = lines(caplog, lambda: rater_image_items(tmp_path / "scans"))
    assert line.endswith("1 file in .mhd (b.mhd), 1 folder (more)")
    write_case(tmp_path / "truth" / "case01")
    empty(tmp_path / "predicted" / "case01" / "task01.nii.gz", tmp_path / "predicted" / "case01" / "overlay.png")
    items = rater_truth(tmp_path / "truth")[1]
    (line,) = lines(caplog, lambda: rater_predictions(tmp_path / "predicted", items))
    assert line.endswith("1 file in .png (overlay.png)")
