"""`check`: pages of good and of doubtful sets, and the exit status."""

from __future__ import annotations

import json
import logging

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from monai_ext.__main__ import main
from monai_ext.data import write_aerial_phantoms, write_lesion_phantoms, write_rater_phantoms

MAKE = {
    "lesion": lambda folder: write_lesion_phantoms(folder, count=6, size=(32, 40)),
    "raters": lambda folder: write_rater_phantoms(folder, count=3, size=(32, 32)),
    "tiles": lambda folder: write_aerial_phantoms(folder, count=4, size=(32, 32)),
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MONAI_EXT_CACHE", str(tmp_path / "cache"))


def checked(folder, kind, capsys, *options):
    status = main(["check", str(folder), "--kind", kind, *options])
    return status, capsys.readouterr().out


@pytest.mark.parametrize("kind", MAKE)
def test_a_good_set_passes_and_leaves_page_and_record(tmp_path, capsys, kind):
    MAKE[kind](tmp_path / "data")
    level = logging.getLogger("monai_ext").level
    status, page = checked(tmp_path / "data", kind, capsys, "--output_dir", str(tmp_path / "out"))
    assert status == 0 and "Verdict: nothing is refused; doubtful: nothing." in page
    record = json.loads((tmp_path / "out" / "check.json").read_text())
    assert record["kind"] == kind and record["parts"][0]["facts"] and not record["parts"][0]["refused"]
    assert "Verdict" in (tmp_path / "out" / "check.html").read_text()
    assert logging.getLogger("monai_ext").level == level


def test_all_files_that_cannot_be_meant_are_refused_at_once(tmp_path, capsys):
    MAKE["lesion"](tmp_path)
    masks = sorted((tmp_path / "masks").iterdir())
    for path in masks[:2]:
        values = np.array(Image.open(path))
        values[:, :10] = 120
        Image.fromarray(values).save(path)
    (tmp_path / "images" / "more.heic").touch()
    status, page = checked(tmp_path, "lesion", capsys)
    assert status == 1 and page.count("several structures") == 2 and "1 file in .heic" in page
    assert "Verdict: refused, see above; doubtful: 1." in page


def test_parts_of_raters_are_looked_at_together(tmp_path, capsys):
    for part in ("Training", "Testing"):
        write_rater_phantoms(tmp_path / part, count=2, size=(32, 32))
        inner = tmp_path / part / "Training"
        for case in inner.iterdir():
            case.rename(tmp_path / part / case.name)
        inner.rmdir()
    status, page = checked(tmp_path, "raters", capsys)
    assert status == 0 and "2 images stand in several parts" in page.replace("\\", "")
    titles = [line for line in page.splitlines() if line.startswith("## ")]
    assert titles == ["## training", "## testing", "## parts together"]
    page = checked(tmp_path, "raters", capsys, "--part", "testing")[1]
    assert [line for line in page.splitlines() if line.startswith("## ")] == ["## testing"]


def test_a_mask_with_nan_is_refused_and_the_values_of_all_are_named(tmp_path, capsys):
    MAKE["raters"](tmp_path)
    path = tmp_path / "Training/case01/task01_seg01.nii.gz"
    values = np.full((32, 32), 2.0, dtype=np.float32)
    values[0, :2] = np.nan, np.inf
    nib.save(nib.Nifti1Image(values, nib.load(path).affine), path)
    status, page = checked(tmp_path, "raters", capsys)
    assert status == 1 and "0 (14), 1 (14), 2 (1)" in page


def test_blank_tiles_are_named_and_a_set_of_them_is_refused(tmp_path, capsys):
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels * (number > 0)).save(tmp_path / f"{number}_0.png")
    status, page = checked(tmp_path, "tiles", capsys)
    assert status == 0 and "1 of 4 tiles left out" in page
    for number in range(4):
        Image.fromarray(np.full((16, 16, 3), 70, np.uint8)).save(tmp_path / f"{number}_0.png")
    status, page = checked(tmp_path, "tiles", capsys)
    assert status == 1 and "no tile shows ground" in page
