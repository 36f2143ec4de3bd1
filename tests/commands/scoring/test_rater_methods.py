"""Methods for several raters, read from the evaluations of their runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluated_runs import CASES, write_run

from monai_ext.commands.comparison.results import ResultsError
from monai_ext.commands.scoring.rater_methods import read_methods


def test_folds_of_a_method_are_put_together(tmp_path: Path) -> None:
    write_run(tmp_path / "fold0", "holistic", better=0.0, cases=CASES[:6], fold=0)
    write_run(tmp_path / "fold1", "holistic", better=0.0, cases=CASES[6:], fold=1)
    (method,) = read_methods([tmp_path])
    assert method.runs == 2 and sorted(method.rows) == CASES


def test_a_case_scored_twice_by_one_method_and_seed_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / name, "holistic", better=0.0)
    with pytest.raises(ResultsError, match=r"case 'case00' was scored by two runs of holistic with one seed"):
        read_methods([tmp_path])


def test_backbones_of_one_method_are_methods_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "combined", better=0.0, backbone="basic_unet")
    write_run(tmp_path / "b", "combined", better=0.0, backbone="mobilenet_v2")
    write_run(tmp_path / "c", "holistic", better=0.0, backbone="basic_unet")
    names = [method.name for method in read_methods([tmp_path])]
    assert names == ["combined (basic_unet)", "combined (mobilenet_v2)", "holistic"]


def test_settings_that_are_named_distinguish_methods_too(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "soft_label", better=0.0, zoom=1.0, backbone="dynunet")
    write_run(tmp_path / "b", "soft_label", better=0.0, zoom=2.0, backbone="dynunet")
    write_run(tmp_path / "c", "ordered", better=0.0, zoom=2.0, backbone="dynunet")
    names = [method.name for method in read_methods([tmp_path], by=("zoom",))]
    assert names == ["soft_label (zoom 1.0)", "soft_label (zoom 2.0)", "ordered"]
    with pytest.raises(ResultsError, match=r"has no setting 'zooom', only method, task, .*: choose another --by"):
        read_methods([tmp_path], by=("zooom",))


@pytest.mark.parametrize("settings", [{"batch_size": 6}, {"spatial_size": [32, 32]}])
def test_unequal_trainings_are_refused(tmp_path: Path, settings: dict) -> None:
    write_run(tmp_path / "a", "holistic", better=0.0)
    write_run(tmp_path / "b", "combined", better=0.0, **settings)
    with pytest.raises(ResultsError, match=f"has {next(iter(settings))} = .*do not compare"):
        read_methods([tmp_path])


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder .*absent"):
        read_methods([tmp_path / "absent"])
    with pytest.raises(ResultsError, match="no evaluation/summary.json below"):
        read_methods([tmp_path])
    folder = write_run(tmp_path / "a", "holistic", better=0.0)
    (folder / "evaluation" / "cases.csv").write_text("id,qubiq_score\ncase00,many\n")
    with pytest.raises(ResultsError, match=r"cases.csv is damaged .could not convert string to float: 'many'"):
        read_methods([folder])
    (folder / "evaluation" / "summary.json").write_text("{")
    with pytest.raises(ResultsError, match=r"summary.json is damaged"):
        read_methods([folder])
