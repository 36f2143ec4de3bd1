"""Folders of predictions whose scores are known by hand, what the raters score, and what the command says."""

from __future__ import annotations

import json
import weakref

import msgspec
import numpy as np
import pytest
from layout_trees import TREES
from scored_folders import FEW, NOBODY, A, B, rows_of, scored, write, write_case, write_masks

from monai_ext.__main__ import main
from monai_ext.commands.datasets.copies import readable_copy
from monai_ext.commands.scoring import score as module
from monai_ext.commands.scoring.score import MissingPredictionError, ScoreOptions, score
from monai_ext.data.isic import DatasetLayoutError
from monai_ext.data.raters.predictions import rater_predictions, rater_truth
from monai_ext.raster.images import ImageFileError


def test_perfect_heads_have_perfect_scores_and_the_human_ceiling_is_that_of_two_raters(folders):
    truth, predictions, case = folders
    write_masks(case, {1: A, 2: B})
    means, human, content = scored(predictions, truth)
    for name in ("qubiq_score", "dice_soft", "dice_heads", "jaccard_heads", "dice_rater01", "hungarian_iou",
                 "dice_match", "dice_max", "dice_consensus", "uncertainty_ncc"):  # fmt: skip
        assert means[name] == pytest.approx(1), name
    assert means["generalized_energy_distance"] == pytest.approx(0, abs=1e-12)
    assert means["brier_consensus"] == means["ece_consensus"] == 0
    assert means["sample_diversity"] == human["sample_diversity"] == pytest.approx(0.25)
    for name in ("qubiq_score", "dice_each_rater", "dice_consensus", "dice_match", "dice_heads", "dice_rater02"):
        assert human[name] == pytest.approx(2 / 3), name
    assert human["hungarian_iou"] == human["jaccard_rater01"] == pytest.approx(1 / 2)
    assert human["generalized_energy_distance"] == pytest.approx(1 / 2 * (1 / 2 + 1 / 2))
    assert human["brier"] == human["ece"] == pytest.approx(1 / 4)  # one pixel of four is wrong
    assert human["uncertainty_ncc"] is None
    task = content["tasks"][0]
    assert task["rater_agreement"]["mean"] == pytest.approx(2 / 3)
    assert task["dice_of_heads_and_raters"] == [[1, pytest.approx(2 / 3)], [pytest.approx(2 / 3), 1]]


def test_empty_masks_score_one_where_everybody_agrees_that_there_is_nothing(tmp_path):
    truth, predictions = tmp_path / "truth", tmp_path / "predicted"
    for name, ours in (("case01", NOBODY), ("case02", A)):
        write_case(truth / name, {1: NOBODY, 2: NOBODY})
        write_masks(predictions / name, {1: ours, 2: ours})
    _, human, content = scored(predictions, truth)
    empty, wrong = rows_of(predictions)
    for name in ("qubiq_score", "dice_consensus", "dice_each_rater", "dice_rater01", "hungarian_iou", "confidence"):
        assert float(empty[name]) == 1, name
        assert float(wrong[name]) == (name == "confidence"), name
    assert float(empty["generalized_energy_distance"]) == float(empty["ece"]) == 0
    assert float(wrong["generalized_energy_distance"]) == 2  # the worst there is
    assert human["qubiq_score"] == human["dice_each_rater"] == 1
    assert content["tasks"][0]["scores"]["uncertainty_ncc"]["mean"] is None  # nobody disagrees


def test_a_rater_missing_from_a_case_enters_nothing_there(tmp_path):
    truth, predictions = tmp_path / "truth", tmp_path / "predicted"
    write_case(truth / "case01", {1: A, 2: B})
    write_case(truth / "case02", {1: A})
    for name in ("case01", "case02"):
        write_masks(predictions / name, {1: A, 2: NOBODY})
    means, _, content = scored(predictions, truth)
    first, second = rows_of(predictions)
    assert (first["raters"], second["raters"]) == ("2", "1")
    assert float(second["dice_heads"]) == 1 and second["dice_rater02"] == second["raters_dice_rater01"] == ""
    assert float(first["dice_heads"]) == pytest.approx(1 / 2) and means["dice_rater02"] == 0
    assert content["tasks"][0]["scores"]["dice_rater02"]["cases"] == 1
    assert content["tasks"][0]["dice_of_heads_and_raters"][1] == [0, 0]


def test_every_task_has_its_scores_and_all_tasks_the_mean_of_cases(tmp_path):
    truth, predictions = tmp_path / "truth", tmp_path / "predicted"
    for task, mask in ((1, A), (3, B)):
        write_case(truth / "case01", {1: mask}, task=task)
        write_masks(predictions / "case01", {1: A}, task=task)
    content = msgspec.to_builtins(score(ScoreOptions(predictions, truth, resamples=FEW)))
    dice = [task["scores"]["dice_consensus"]["mean"] for task in content["tasks"]]
    assert [task["task"] for task in content["tasks"]] == [1, 3] and dice == pytest.approx([1, 2 / 3])
    together = content["all_tasks"]["scores"]["dice_consensus"]
    assert together["mean"] == together["low"] == pytest.approx(5 / 6) and together["cases"] == 1
    alone = msgspec.to_builtins(score(ScoreOptions(predictions, truth, resamples=FEW, tasks=(3,))))
    assert [task["task"] for task in alone["tasks"]] == [3] and alone["all_tasks"] is None


def test_anonymous_raters_have_no_scores_of_their_own(folders):
    truth, predictions, case = folders
    write_masks(case, {1: B, 2: A})
    means, human, content = scored(predictions, truth, anonymous=True)
    assert means["generalized_energy_distance"] == pytest.approx(0, abs=1e-12)
    assert not [name for name in (*means, *human) if "_rater0" in name or "heads" in name]
    assert content["tasks"][0]["dice_of_heads_and_raters"] is None


@pytest.fixture
def three(tmp_path):
    """Three cases by A and B; case01 predicted perfectly, case02 in part, case03 not at all."""
    truth, predictions = tmp_path / "truth", tmp_path / "predicted"
    for name in ("case01", "case02", "case03"):
        write_case(truth / name, {1: A, 2: B})
    write_masks(predictions / "case01", {1: A, 2: B})
    write_masks(predictions / "case02", {1: A})
    write_masks(predictions / "case99", {1: A, 2: B})
    return truth, predictions


def test_missing_predictions_stop_with_every_reason(three):
    with pytest.raises(MissingPredictionError) as stop:
        scored(three[1], three[0])
    assert "2 of 3 cases have no complete prediction of task 1" in str(stop.value)
    assert "case02 has no task01_seg02.nii.gz, which other predictions have; no folder" in str(stop.value)
    assert not (three[1] / "scores").exists()


def test_missing_predictions_left_out_are_counted_and_named(three):
    means, human, content = scored(three[1], three[0], missing="skip")
    task = content["tasks"][0]
    assert means["qubiq_score"] == 1 and human["qubiq_score"] == pytest.approx(2 / 3)
    assert (task["cases"], task["scored"], list(task["missing"])) == (3, 1, ["case02", "case03"])
    assert task["unknown_predictions"] == ["case99"]
    rows = rows_of(three[1])
    assert [row["status"] for row in rows] == ["scored", "missing", "missing"]
    assert rows[2]["qubiq_score"] == rows[2]["raters_qubiq_score"] == "" and rows[2]["raters"] == "2"
    page = (three[1] / "scores" / "scores.md").read_text()
    assert "1 of 3 cases scored" in page and "Without complete prediction, left out (2): case02, case03." in page
    assert "Predicted but not among the targets, passed over (1): case99." in page


def test_missing_predictions_counted_as_zero_have_the_worst_scores_on_both_sides(three):
    means, human, _ = scored(three[1], three[0], missing="zero")
    for name in ("qubiq_score", "dice_heads", "dice_rater02", "hungarian_iou"):
        assert means[name] == pytest.approx(1 / 3), name
    assert means["generalized_energy_distance"] == pytest.approx(4 / 3)
    assert means["brier_consensus"] == means["ece_consensus"] == pytest.approx(2 / 3)
    assert means["uncertainty_ncc"] == pytest.approx(-1 / 3)
    assert human["qubiq_score"] == pytest.approx(2 / 3)
    assert (
        "Without complete prediction, given the worst scores (2): case02, case03."
        in (three[1] / "scores" / "scores.md").read_text()
    )


def test_a_missing_prediction_owes_nothing_to_a_rater_who_is_missing_too(three):
    (three[0] / "case03" / "task01_seg02.nii.gz").unlink()
    means, _, content = scored(three[1], three[0], missing="zero")
    assert rows_of(three[1])[2]["dice_rater02"] == "" and rows_of(three[1])[2]["dice_rater01"] == "0.0"
    assert means["dice_rater02"] == pytest.approx(1 / 2)


def test_predictions_of_other_cases_are_no_predictions(three):
    for name in ("case01", "case02"):
        (three[1] / name).rename(three[1] / name.replace("case0", "case"))
    with pytest.raises(DatasetLayoutError, match="none of the 3 cases .* has predictions for case1, case2, case99"):
        scored(three[1], three[0], missing="skip")


def test_irregularities_that_change_no_score_are_told(folders):
    truth, predictions, case = folders
    write_case(truth / "Training" / "case02", {1: A}, task=2)  # nobody marked task 1 there
    write(case / "task01_seg01.nii.gz", A, affine=np.diag([2, 1, 1, 1]))
    write_masks(case, {5: A})
    _, _, content = scored(predictions, truth, tasks=(1,))
    page = (predictions / "scores" / "scores.md").read_text()
    assert "Marked by nobody, left out (1): case02" in page
    assert "Of another affine than the target, compared voxel by voxel all the same (1): " in page
    assert "No mask is predicted for raters 2." in page
    assert "Masks are predicted for raters 5, who are not among the targets" in page
    assert content["tasks"][0]["scores"].keys() >= {"dice_rater01"} and "dice_rater05" not in str(content)


def test_folders_and_options_that_do_not_fit_are_named(folders):
    truth, predictions, case = folders
    with pytest.raises(DatasetLayoutError, match="are no folder"):
        scored(predictions, truth)
    case.mkdir(parents=True)
    with pytest.raises(DatasetLayoutError, match="case01 has no prediction of task 1"):
        scored(predictions, truth)
    write_masks(case, {1: A}, kind="sample")
    with pytest.raises(ValueError, match="samples is 16, but there are 1 for task 1"):
        scored(predictions, truth, samples=16)
    with pytest.raises(ValueError, match=r"group is 'patient\\\\d', which is not found in the name of case case01"):
        scored(predictions, truth, group=r"patient\d")
    with pytest.raises(ValueError, match="group is '\\(', which is no regular expression"):
        ScoreOptions(predictions, truth, group="(")
    with pytest.raises(DatasetLayoutError, match="nobody marked task 4"):
        scored(predictions, truth, tasks=(4,))
    with pytest.raises(DatasetLayoutError, match="raters 9 marked nothing in .*, only 1, 2 did"):
        scored(predictions, truth, raters=(9,))
    write(case / "task1_sample1.png", np.array(A, dtype=np.uint8))
    with pytest.raises(DatasetLayoutError, match="two files for one prediction: task01_sample01.nii.gz and task1_sam"):
        scored(predictions, truth)
    with pytest.raises(ValueError, match="is the data set itself: give an output_dir"):
        scored(truth, truth)
    with pytest.raises(DatasetLayoutError, match="no predictions in .*: expected is <case>/task01.nii.gz"):
        rater_predictions(truth.parent, rater_truth(truth)[1])


def test_the_command_prints_tables_and_writes_what_it_prints(many, tmp_path, capsys):
    typed = ["score", "--predictions", str(many[1]), "--targets", str(many[0]), "--resamples", str(FEW)]
    assert main([*typed, "--output_dir", str(tmp_path / "one")]) == 0
    printed = capsys.readouterr()
    assert f"scores: {tmp_path / 'one'}" in printed.err
    content = json.loads((tmp_path / "one" / "scores.json").read_text())
    own = content["tasks"][0]["scores"]["qubiq_score"]
    line = next(line for line in printed.out.splitlines() if line.startswith("QUBIQ score"))
    interval = [f"{own['low']:.4f}", "to", f"{own['high']:.4f}"]
    assert line.split()[3:7] == [f"{own['mean']:.4f}", *interval] and f"{own['raters']['mean']:.4f}" in line
    assert f"| QUBIQ score | higher | {own['mean']:.4f} |" in (tmp_path / "one" / "scores.md").read_text()
    assert content["settings"]["estimator"] == "V" and content["versions"]["monai_ext"]
    assert "Of fewer than 20 cases, intervals are too narrow." in printed.out
    assert main([*typed, "--output_dir", str(tmp_path / "two"), "--jobs", "2"]) == 0
    for name in ("cases.csv", "scores.md"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_options_of_the_command_reach_the_scores(many, capsys):
    typed = ["score", "--predictions", str(many[1]), "--targets", str(many[0]), "--resamples", "9", "--tasks", "1"]
    typed += ["--raters", "1", "3", "--strict", "--bins", "4", "--seed", "5", "--missing", "skip", "--group", "patient"]
    assert (
        main([*typed, "--anonymous", "--estimator", "U", "--labels", "1", "--tolerance", "3", "--spacing", "2", "1"])
        == 0
    )
    settings = json.loads((many[1] / "scores" / "scores.json").read_text())["settings"]
    expected = {"resamples": 9, "tasks": [1], "raters": [1, 3], "strict": True, "bins": 4, "seed": 5, "missing": "skip"}
    expected |= {"group": "patient", "anonymous": True, "estimator": "U", "region": None, "part": None, "samples": None}
    expected |= {"labels": [1], "tolerance": 3.0, "spacing": [2.0, 1.0]}
    assert settings == expected
    assert "anonymous raters 1, 3." in capsys.readouterr().out


def test_distances_between_boundaries_are_in_the_unit_of_the_files(tmp_path):
    truth, case = tmp_path / "truth" / "case01", tmp_path / "predicted" / "case01"
    near, far = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    near[2:5, 2:5] = far[4:7, 2:5] = 1  # two rows apart
    spaced = np.diag([3.0, 0.5, 1, 1])
    for number in (1, 2):
        write(truth / f"task01_seg{number:02d}.nii.gz", near, affine=spaced)
        write(case / f"task01_seg{number:02d}.nii.gz", (near, far)[number - 1], affine=spaced)
    write(truth / "image.nii.gz", near, affine=spaced)
    means, human, content = scored(case.parent, truth.parent)
    task = content["tasks"][0]
    assert (task["distance_unit"], means["hd95_rater01"], means["hd95_rater02"]) == ("mm", 0, 6)
    assert human["hd95_rater01"] == human["assd_consensus"] == 0 and human["surface_dice_each_rater"] == 1
    assert task["scores"]["hd95_rater01"]["better"] == task["scores"]["assd_heads"]["better"] == "lower"
    pixels, _, _ = scored(case.parent, truth.parent, spacing=(1.0, 1.0))
    assert pixels["hd95_rater02"] == 2
    write(case.parent.parent / "truth" / "case02" / "task01_seg01.nii.gz", near, affine=spaced)
    write(case.parent.parent / "truth" / "case02" / "image.nii.gz", near, affine=spaced)
    means, _, _ = scored(case.parent, truth.parent, missing="zero")
    assert means["hd95_each_rater"] > np.hypot(24, 4) / 2 and means["surface_dice_heads"] < 0.76


def test_the_help_shows_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["score", "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and "examples:" in text and "--missing {error,zero,skip}" in text


def test_an_error_among_several_threads_is_raised(many):
    write(many[1] / "patient1-0" / "task01.nii.gz", np.full((4, 5), 7.0))
    with pytest.raises(ImageFileError, match="patient1-0"):
        scored(many[1], many[0], jobs=2)
    with pytest.raises(ValueError, match="jobs is 0"):
        scored(many[1], many[0], jobs=0)


def test_no_more_than_one_case_is_in_memory(many, monkeypatch):
    read, alive, most = module.read_rater_case, [], []

    def watched(*arguments):
        most.append(sum(reference() is not None for reference in alive))
        case = read(*arguments)
        alive.append(weakref.ref(case.masks))
        return case

    monkeypatch.setattr(module, "read_rater_case", watched)
    scored(many[1], many[0])
    assert len(most) == 6 and max(most) == 0


def test_targets_of_another_layout_are_scored_as_a_copy_beside_the_scores(tmp_path):
    TREES["rater_suffixes"](tmp_path / "set")
    predictions = readable_copy(tmp_path / "set", tmp_path / "perfect", "raters") / "Testing"
    found = score(ScoreOptions(predictions=predictions, targets=tmp_path / "set", output_dir=tmp_path / "out"))
    assert found.targets == str(tmp_path / "set") and (tmp_path / "out/copies/set/Testing/a").is_dir()
    assert found.tasks[0].scores["dice_heads"].mean == 1
    with pytest.raises(DatasetLayoutError, match="no case of .* is of the part tset"):
        score(ScoreOptions(predictions=predictions, targets=tmp_path / "set", output_dir=tmp_path / "out", part="tset"))
