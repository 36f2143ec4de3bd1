"""The command on small sets of cases whose agreement is known."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from drawn_masks import square_at
from rater_cases import volume
from scored_folders import write, write_case

from monai_ext.__main__ import main
from monai_ext.commands.agreement import agreement as module
from monai_ext.commands.agreement.agreement import AgreementOptions, agreement


def _rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def without_figures(monkeypatch):
    """Drawing takes most of the time."""
    monkeypatch.setattr(module, "draw_figures", lambda *arguments, **options: {})


@pytest.fixture
def cells(tmp_path):
    """Twelve cases: rater 2 draws a row more than raters 1 and 3, who differ by chance, and once another object."""
    random = np.random.default_rng(0)
    for index in range(12):
        top, left = random.integers(2, 6, 2)
        masks = {}
        for number in (1, 2, 3):
            mask = square_at(top, left, 8, 24)
            if number == 2:
                mask[top + 8, left : left + 8] = 1
            elif random.random() < 0.5:
                mask[top, left] = 0
            masks[number] = mask
        if index == 5:
            masks[3] = square_at(17, 17, 5, 24)
        folder = write_case(tmp_path / "cells" / f"patient{index // 2}-{index % 2}", masks)
        write(folder / "image.nii.gz", random.random((24, 24)))
    return tmp_path / "cells"


def test_the_page_shows_habits_outliers_and_sizes_of_studies(cells, tmp_path, capsys):
    output = tmp_path / "page"
    assert (
        main(["agreement", str(cells), "--output_dir", str(output), "--resamples", "200", "--shown", "2", "--pdf"]) == 0
    )
    record = json.loads((output / "agreement.json").read_text())
    structure = record["structures"][0]
    habits = {entry["rater"]: entry["habits"] for entry in structure["habits"]}
    assert habits[2]["size"]["low"] > 0.05 and abs(habits[1]["size"]["mean"]) < habits[2]["size"]["mean"]
    assert [(entry["case"], entry["rater"]) for entry in structure["suspects"]] == [("patient2-1", 3)]
    assert structure["disagreement"][0]["case"] == "patient2-1" and structure["unit"] == "pixels"
    values = {(entry["name"], entry["of"]): entry["value"] for entry in structure["chance"]}
    assert len(values) == 7 and values["Krippendorff's alpha", "pixels of the image"] > 0.7
    page = (output / "agreement.html").read_text()
    assert len(list(output.glob("*.pdf"))) == 7
    assert page.count("<img") == 7 and "another object" in page and "Shift, columns" in page
    assert "Likely wrong masks" in capsys.readouterr().out
    cases = _rows(output / "cases.csv")
    pairs = [row for row in _rows(output / "pairs.csv") if row["id"] == "patient0-0"]
    own = next(row for row in cases if row["id"] == "patient0-0")
    assert float(own["dice"]) == pytest.approx(np.mean([float(row["dice"]) for row in pairs]), abs=1e-6)
    assert len(pairs) == 3 and {"over", "under", "shift_2", "log_size"} <= set(_rows(output / "raters.csv")[0])


def test_of_anonymous_raters_nothing_is_shown_about_single_ones(cells, tmp_path, without_figures):
    options = AgreementOptions(cells, tmp_path / "page", anonymous=True, group=r"patient\d+", resamples=50)
    structure = agreement(options).structures[0]
    assert structure.pairs == [] and structure.habits == []
    assert {entry.name for entry in structure.chance} == {"Krippendorff's alpha", "Fleiss' kappa", "ICC(1)"}
    page = (tmp_path / "page" / "agreement.md").read_text()
    assert "Raters differ from case to case" in page and "Habits" not in page and "rater 3" not in page
    assert "groups of cases (patient" in page


def test_volumes_and_missing_raters(tmp_path, without_figures):
    volume(tmp_path / "data")
    for number in (2, 3, 4):
        case = volume(tmp_path / "more" / str(number))
        (tmp_path / "more" / str(number) / "case1-1").rename(tmp_path / "data" / f"case1-{number}")
        assert case is not None
    (tmp_path / "data" / "case1-4" / "task01_seg02.nii.gz").unlink()
    structure = agreement(AgreementOptions(tmp_path / "data", tmp_path / "page", resamples=20, jobs=2)).structures[0]
    assert (structure.cases, structure.alone, structure.unit) == (3, 1, "mm")
    assert len(structure.habits[0].shift) == 3 and structure.scores["dice"].mean < 1
    assert any("With two raters" in line for line in structure.left_out)


def test_a_set_with_one_rater_and_options_that_make_no_sense_are_refused(tmp_path):
    write_case(tmp_path / "data" / "case01", {1: square_at(1, 1, 3)})
    with pytest.raises(ValueError, match="no case of task 1 .* has two raters"):
        agreement(AgreementOptions(tmp_path / "data", tmp_path / "page"))
    with pytest.raises(ValueError, match="width is 2"):
        AgreementOptions(tmp_path, tmp_path, width=2.0)
    with pytest.raises(ValueError, match="shown is 0"):
        AgreementOptions(tmp_path, tmp_path, shown=0)
