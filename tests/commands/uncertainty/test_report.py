"""Uncertainty from the evaluator to calibrated intervals, report and figures, on toys whose answers are known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from monai_ext.__main__ import main
from monai_ext.commands.comparison.results import ResultsError
from monai_ext.commands.uncertainty.report import QUESTIONS, place_effect, read_run, report, trend
from monai_ext.engines.uncertainty import KINDS


def write_run(folder: Path, settings: dict, **deviations: list[float]) -> Path:
    """A report of three test tiles with these standard deviations, and of two training tiles with half of them."""
    (folder / "uncertainty").mkdir(parents=True)
    (folder / "uncertainty" / "summary.json").write_text(json.dumps({"settings": settings}))
    columns = {kind: deviations.get(kind, [0.1, 0.1, 0.1]) for kind in KINDS}
    lines = [",".join(["id", "place", "group", *(f"{kind}_sd" for kind in KINDS)])]
    for i in range(3):
        lines.append(",".join([f"t{i}", "p", "test", *(str(columns[kind][i]) for kind in KINDS)]))
    for i in range(2):
        lines.append(",".join([f"s{i}", "q", "training", *(str(columns[kind][i] / 2) for kind in KINDS)]))
    (folder / "uncertainty" / "tiles.csv").write_text("\n".join(lines) + "\n")
    return folder


BASE = {"training_tiles": 100, "scale": 4, "noise": 0.0}


def question(kind: str):
    return next(q for q in QUESTIONS if q.kind == kind)


def test_a_real_report_is_read_and_its_bright_places_are_the_doubtful_ones(reported):
    run = read_run(reported.parent)
    assert run.settings == {"training_tiles": 20, "scale": 2, "noise": 0}
    effect = place_effect(run)
    assert effect.rises and effect.probability == 1.0
    assert effect.unseen.mean() == pytest.approx(255 * math.sqrt(1e-4), rel=1e-4) and len(effect.seen) == 20
    assert place_effect(run, "elsewhere") is None


def test_trends_are_taken_over_runs_that_differ_in_one_setting_and_over_common_tiles(tmp_path):
    folders = [
        write_run(tmp_path / "a", BASE, aleatoric=[0.01, 0.02, 0.03]),
        write_run(tmp_path / "b", BASE | {"noise": 0.1}, aleatoric=[0.05, 0.01, 0.06]),
        write_run(tmp_path / "c", BASE | {"noise": 0.1}, aleatoric=[0.07, 0.01, 0.06]),  # another seed
        write_run(tmp_path / "d", BASE | {"noise": 0.2, "scale": 2}, aleatoric=[0.0, 0.0, 0.0]),
    ]
    found = trend([read_run(folder) for folder in folders], question("aleatoric"))
    assert found.values.tolist() == [0.0, 0.1] and found.runs == (1, 2)
    assert found.tiles[1] == pytest.approx([255 * 0.06, 255 * 0.01, 255 * 0.06])
    assert found.moved == pytest.approx(2 / 3) and found.as_expected


def test_the_report_answers_every_question_and_draws_it(tmp_path, capsys):
    folders = [
        write_run(tmp_path / "base", BASE, epistemic=[0.04, 0.05, 0.06]),
        write_run(tmp_path / "more", BASE | {"training_tiles": 400}, epistemic=[0.02, 0.02, 0.07]),
        write_run(tmp_path / "noisy", BASE | {"noise": 0.02}, aleatoric=[0.1, 0.2, 0.2]),
        write_run(tmp_path / "coarse", BASE | {"scale": 8}, ambiguity=[0.1, 0.05, 0.1]),
    ]
    assert main(["uncertainty_report", *map(str, folders), "--output_dir", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "epistemic rises in group test: yes",
        "epistemic falls with training tiles: yes",
        "ambiguity rises with scale: NO",
        "aleatoric rises with noise: yes",
    ]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"uncertainty.json", "epistemic.png", "ambiguity.png", "aleatoric.png"}
    answers = json.loads((tmp_path / "out" / "uncertainty.json").read_text())["answers"]
    fell = answers["epistemic_falls_with_training_tiles"]
    assert fell["tiles_moved_as_expected"] == pytest.approx(2 / 3) and fell["tiles"] == 3
    assert [row["mean"] for row in fell["values"]] == pytest.approx([255 * 0.05, 255 * 0.11 / 3])
    assert len(answers["epistemic_rises_in_group_test"]["runs"]) == 4


def test_every_group_of_other_places_is_asked_by_itself(tmp_path):
    folder = write_run(tmp_path / "run", BASE, epistemic=[0.04, 0.05, 0.06])
    with (folder / "uncertainty" / "tiles.csv").open("a") as file:
        file.write("f0,z,foreign,0.1,0.1,0.1,0.01\nc0,y,calibration,0.1,0.1,0.1,0.9\n")
    answers = report([read_run(folder)], tmp_path / "out")
    asked = {name: answer["as_expected"] for name, answer in answers.items() if name.startswith("epistemic_rises")}
    assert asked == {"epistemic_rises_in_group_test": True, "epistemic_rises_in_group_foreign": False}
    assert (tmp_path / "out" / "epistemic.png").is_file()


def test_what_one_run_cannot_answer_is_said_and_not_drawn(tmp_path):
    answers = report([read_run(write_run(tmp_path / "run", BASE))], tmp_path / "out")
    assert answers["epistemic_rises_in_group_test"]["as_expected"]
    assert answers["ambiguity_rises_with_scale"] == {
        "answered": False, "why": "no two runs differ in scale alone and share tiles"
    }  # fmt: skip
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"uncertainty.json", "epistemic.png"}


def test_runs_without_report_or_with_a_damaged_one_are_named(tmp_path):
    with pytest.raises(ResultsError, match=r"no summary.json in '.*nothing' .*run calibrate.json"):
        read_run(tmp_path / "nothing")
    folder = write_run(tmp_path / "run", BASE)
    (folder / "uncertainty" / "tiles.csv").write_text("id,group\nx,test\n")
    with pytest.raises(ResultsError, match="is damaged .*has no column 'total_sd'"):
        read_run(folder)
