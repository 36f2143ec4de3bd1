"""Cases that methods for several raters see."""

from __future__ import annotations

import logging
import shutil

import pytest

from monai_ext.data import DatasetLayoutError, write_rater_phantoms
from monai_ext.engines.rater_data import rater_cases


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_rater_phantoms(folder, count=3, size=(32, 32))
    return folder


def test_columns_follow_the_order_asked_for_and_who_is_left_out_is_told(phantoms, caplog):
    with caplog.at_level(logging.WARNING):
        items = rater_cases(phantoms, method="holistic", raters=[4, 2])
    assert [item["raters"] for item in items] == [[4, 2]] * 3
    assert [[path[-8] for path in item["label"]] for item in items] == [["4", "2"]] * 3
    assert "raters 1, 3, 5" in caplog.text and "[1, 2, 3, 4, 5]" in caplog.text


def test_a_head_without_rater_is_refused_with_the_way_out(phantoms):
    with pytest.raises(DatasetLayoutError, match=r"rater 6, 7.*--raters '\[1, 2, 3, 4, 5\]'"):
        rater_cases(phantoms, method="holistic", raters=[1, 2, 3, 4, 5, 6, 7])
    with pytest.raises(ValueError, match=r"head for each rater.*\[1, 2, 3, 4, 5\]"):
        rater_cases(phantoms, method="combined", raters=[])


def test_anonymous_raters_are_for_methods_that_take_all_alike(phantoms):
    with pytest.raises(ValueError, match="anonymous.*another person"):
        rater_cases(phantoms, method="holistic", raters=[1, 2], anonymous="true")
    for method in ("majority", "prob_unet"):
        items = rater_cases(phantoms, method=method, raters=[1, 2, 3, 9], anonymous="true")
        assert items[0]["raters"] == [1, 2, 3]  # nobody is number 9
        assert rater_cases(phantoms, method=method)[0]["raters"] == [1, 2, 3, 4, 5]
    with pytest.raises(DatasetLayoutError, match="raters 8 marked nothing"):
        rater_cases(phantoms, method="majority", raters=[8])


def test_a_case_that_none_of_the_chosen_marked_is_named(tmp_path):
    write_rater_phantoms(tmp_path, count=2, size=(32, 32))
    (tmp_path / "Training" / "case02" / "task01_seg03.nii.gz").unlink()
    with pytest.raises(DatasetLayoutError, match="case02.*raters 3"):
        rater_cases(tmp_path, method="holistic", raters=[3])


def test_cases_to_be_scored_have_the_columns_of_the_training_whoever_marked_them(tmp_path, caplog):
    write_rater_phantoms(tmp_path, count=2, size=(32, 32))
    part = tmp_path / "Training"
    shutil.copytree(part, tmp_path / "Validation")
    for name in ("case01", "case02"):
        (tmp_path / "Validation" / name / "task01_seg03.nii.gz").unlink()
    options = {"part": "Validation", "raters": [1, 3, 5], "evaluation": True}
    for method in ("holistic", "soft_label", "prob_unet"):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            items = rater_cases(tmp_path, method=method, **options)
        assert [item["raters"] for item in items] == [[1, 3, 5]] * 2
        assert [[path and path[-8] for path in item["label"]] for item in items] == [["1", None, "5"]] * 2
        assert "raters 2, 4 of" in caplog.text and "are left out: the training had none of them" in caplog.text
        assert "raters 3 of the training marked no case of" in caplog.text and "--raters" not in caplog.text
    with pytest.raises(DatasetLayoutError, match=r"\(Validation\) has a mask by rater 3, who should have a head"):
        rater_cases(tmp_path, method="holistic", part="Validation", raters=[1, 3, 5])
    with pytest.raises(DatasetLayoutError, match="none of the raters of the training, 3, 9, marked a case"):
        rater_cases(tmp_path, method="holistic", **options | {"raters": [3, 9]})
    (tmp_path / "Validation" / "case02" / "task01_seg01.nii.gz").unlink()
    with pytest.raises(DatasetLayoutError, match=r"case02.*raters 1, 3 \(1 such cases\): take the cases out"):
        rater_cases(tmp_path, method="holistic", **options | {"raters": [1, 3]})
