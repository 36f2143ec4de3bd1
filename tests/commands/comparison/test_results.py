"""The runs of a comparison read back."""

from __future__ import annotations

import numpy as np
import pytest
from compared_runs import edit
from fabricated_comparison import CASES, dice_of

from monai_ext.commands.comparison.results import ResultsError, read_results
from monai_ext.commands.comparison.summaries import loss_summaries


def test_results_are_the_written_numbers_in_their_places(runs):
    results = read_results(runs)
    assert (results.losses, results.folds, results.seeds) == (("bce", "dice", "jaccard"), 2, (0,))
    expected = [[[dice_of(loss, case) for case in range(CASES)]] for loss in results.losses]
    np.testing.assert_array_equal(results.values["dice"], expected)
    np.testing.assert_array_equal(results.fold_of, [np.arange(CASES) % 2])
    assert results.missing == () and results.groups is None
    assert results.seconds["bce", 0, 0] == 180.0
    np.testing.assert_allclose(results.curves["bce"]["train_loss"], [[1, 1 / 2, 1 / 3]] * 2)
    assert np.isnan(results.curves["bce"]["val_mean_dice"][:, 0]).all()


def test_missing_runs_are_listed_and_leave_holes(runs):
    (runs / "dice/fold1_seed0/finished.json").unlink()
    results = read_results(runs)
    assert results.missing == (("dice", 1, 0),)
    assert np.isnan(results.values["dice"][1, 0, 1::2]).all()
    assert not np.isnan(results.values["dice"][1, 0, 0::2]).any()


def test_an_undefined_precision_is_left_out_and_counted(runs):
    edit(runs / "bce/fold0_seed0/evaluation/cases.csv", "case00,0.7,0.5384615384615384,0.7,", "case00,0.7,0.538,,")
    results = read_results(runs)
    assert results.undefined["precision"] == 1 and results.undefined["dice"] == 0
    summary = loss_summaries(results, "precision")[0]
    assert summary.cases == CASES - 1
    assert summary.case_mean == pytest.approx(np.mean([dice_of("bce", case) for case in range(1, CASES)]))


def test_a_repeated_epoch_of_a_resumed_run_counts_once(runs):
    path = runs / "bce/fold0_seed0/epochs.csv"
    path.write_text(path.read_text() + "3,0.25,0.9,0.001,60\n")
    assert read_results(runs).curves["bce"]["train_loss"][0].tolist() == [1, 0.5, 0.25]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("evaluation/cases.csv", "case02,", "case00,", "line 3: case 'case00' appears twice"),
        ("evaluation/cases.csv", "case02,0.712", "case02,71.2", "line 3: dice is '71.2', not a number from 0 to 1"),
        ("evaluation/cases.csv", "case02,0.712", "case02,high", "dice is 'high'"),
        ("evaluation/cases.csv", "specificity", "spec", "has no column 'specificity'"),
        ("epochs.csv", "epoch,", "step,", "epochs.csv is damaged"),
        ("finished.json", "{", "", "finished.json is damaged"),
        ("finished.json", '"fold"', '"part"', "missing required field fold"),
        ("finished.json", '"fold": 0', '"fold": 1', "does not name its loss, fold and seed"),
    ],
)
def test_a_damaged_run_is_named_with_file_and_reason(runs, file, old, new, message):
    edit(runs / "bce/fold0_seed0" / file, old, new)
    with pytest.raises(ResultsError, match=message) as error:
        read_results(runs)
    assert "fold0_seed0" in str(error.value)


def test_losses_that_saw_other_cases_cannot_be_paired(runs):
    edit(runs / "dice/fold0_seed0/evaluation/cases.csv", "case02,", "stranger,")
    with pytest.raises(ResultsError, match="validated different cases"):
        read_results(runs)


def test_a_case_in_two_folds_is_an_error(runs):
    for loss in ("bce", "dice", "jaccard"):
        edit(runs / loss / "fold1_seed0/evaluation/cases.csv", "case01,", "case00,")
    with pytest.raises(ResultsError, match="'case00' is validated in fold 0 and in fold 1 of seed 0"):
        read_results(runs)


def test_nothing_to_report_is_said(tmp_path):
    with pytest.raises(ResultsError, match="no finished run"):
        read_results(tmp_path)
    with pytest.raises(FileNotFoundError, match="give the --output_dir of a comparison"):
        read_results(tmp_path / "nothing")
