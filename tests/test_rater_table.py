"""The table of methods from fabricated evaluations whose means and winners are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from evaluated_runs import CASES, write_run

from monai_ext.__main__ import main
from monai_ext.experiments.rater_table import rater_table, read_methods
from monai_ext.experiments.results import ResultsError


def test_means_intervals_pairs_and_files(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "holistic", "holistic", better=0.02)
    write_run(tmp_path / "runs" / "combined", "combined", better=0.0)
    human = tmp_path / "scores.json"
    values = {"mean": 0.8, "low": 0.75, "high": 0.85}
    human.write_text(json.dumps({"tasks": [{"scores": {"qubiq_score": {"human": values}, "ece": {"human": None}}}]}))
    content = rater_table([tmp_path / "runs"], tmp_path / "table", human=human, resamples=500)

    assert [entry["method"] for entry in content["methods"]] == ["combined", "holistic"]
    assert content["methods"][0]["training_minutes"] == pytest.approx(1.5)
    combined, holistic = content["scores"]["qubiq_score"]
    assert combined["mean"] == pytest.approx(0.755) and holistic["mean"] == pytest.approx(0.775)
    assert combined["low"] < combined["mean"] < combined["high"]
    assert content["scores"]["hungarian_iou"][0] | {"low": 0, "high": 0} == {
        "mean": pytest.approx(0.76),  # case00 has none
        "low": 0,
        "high": 0,
        "cases": 11,
    }
    (pair,) = content["pairs"]
    assert pair["mean"] == pytest.approx(-0.02) and pair["claimed"] and pair["p_holm"] < 0.01
    assert content["first_in_qubiq_score"] == [0.0, 1.0]
    page = (tmp_path / "table" / "table.md").read_text()
    assert "0.775 (" in page and "one more annotator" in page and "0.800 (0.750-0.850)" in page
    assert json.loads((tmp_path / "table" / "table.json").read_text()) == content
    assert (tmp_path / "table" / "scores.png").stat().st_size > 1000


def test_folds_of_a_method_are_put_together(tmp_path: Path) -> None:
    write_run(tmp_path / "fold0", "holistic", better=0.0, cases=CASES[:6], fold=0)
    write_run(tmp_path / "fold1", "holistic", better=0.0, cases=CASES[6:], fold=1)
    (method,) = read_methods([tmp_path])
    assert method.runs == 2 and sorted(method.rows) == CASES


def test_a_case_scored_twice_by_one_method_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / name, "holistic", better=0.0)
    with pytest.raises(ResultsError, match=r"case 'case00' was scored by two runs of holistic"):
        read_methods([tmp_path])


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
    with pytest.raises(ResultsError, match=r"nothing.json is no scores.json"):
        rater_table([folder], tmp_path / "table", human=tmp_path / "nothing.json")
    (folder / "evaluation" / "cases.csv").write_text("id,qubiq_score\ncase00,many\n")
    with pytest.raises(ResultsError, match=r"cases.csv is damaged .could not convert string to float: 'many'"):
        read_methods([folder])
    (folder / "evaluation" / "summary.json").write_text("{")
    with pytest.raises(ResultsError, match=r"summary.json is damaged"):
        read_methods([folder])


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_run(tmp_path / "a", "holistic", better=0.0)
    assert main(["rater-table", str(tmp_path / "a"), "--output_dir", str(tmp_path / "table"), "--resamples", "50"]) == 0
    assert "| holistic | 1,234 | 5 | 1.5 |" in capsys.readouterr().out
