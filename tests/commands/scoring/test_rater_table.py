"""The table of methods from fabricated evaluations whose means and winners are known."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from evaluated_runs import CASES, write_run
from scored_folders import write_case

from monai_ext.__main__ import main
from monai_ext.commands.comparison.results import ResultsError
from monai_ext.commands.scoring import rater_table as module
from monai_ext.commands.scoring.rater_table import RaterTableOptions, rater_table
from monai_ext.storage.records import read_record

FEW = {"resamples": 200}


def told_table(options: RaterTableOptions) -> dict:
    """What table.json holds."""
    return msgspec.to_builtins(rater_table(options))


CEILING = {"mean": 0.8, "low": 0.75, "high": 0.85, "cases": len(CASES), "sd": None}


def write_scores(
    folder: Path, *, heads: int = 0, samples: int = 16, task: int = 1, estimator: str = "V", **raters: dict
) -> Path:
    """A scores.json of one task of which raters have the scores `raters`."""
    predicted = {"probability": True, "raters": list(range(heads)), "samples": list(range(samples))}
    scores = {name: {"raters": values} for name, values in ({"qubiq_score": CEILING} | raters).items()}
    entry = {"task": task, "scored": len(CASES), "predicted": predicted, "scores": scores}
    path = folder / "scores.json"
    path.write_text(json.dumps({"settings": {"estimator": estimator}, "tasks": [entry]}))
    return path


def test_means_intervals_pairs_and_files(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "holistic", "holistic", better=0.02)
    write_run(tmp_path / "runs" / "combined", "combined", better=0.0)
    scored = write_scores(tmp_path, ece=None)
    content = told_table(
        RaterTableOptions((tmp_path / "runs",), tmp_path / "table", rater_scores=scored, resamples=500)
    )

    assert [entry["method"] for entry in content["methods"]] == ["holistic", "combined"]  # the better one first
    assert content["methods"][0]["training_minutes"] == pytest.approx(1.5)
    holistic, combined = content["scores"]["qubiq_score"]
    assert combined["mean"] == pytest.approx(0.755) and holistic["mean"] == pytest.approx(0.775)
    assert combined["low"] < combined["mean"] < combined["high"]
    assert content["scores"]["hungarian_iou"][1] | {"low": 0, "high": 0} == {
        "mean": pytest.approx(0.76),  # case00 has none
        "low": 0,
        "high": 0,
        "cases": 11,
    }
    (pair,) = content["pairs"]
    assert pair["mean"] == pytest.approx(0.02) and pair["claimed"] and pair["p_holm"] < 0.01
    assert pair["by_seed"] == [pytest.approx(0.02)]
    assert content["first_in_qubiq_score"] == [1.0, 0.0]
    page = (tmp_path / "table" / "table.md").read_text()
    assert content["notes"] == [] and "| 1,234 | 1.5 | 5 | 1 | 12 |" in page
    assert "0.775 (" in page and "one more rater" in page and "0.800 (0.750-0.850)" in page
    assert read_record(tmp_path / "table" / "table.json", dict) == content
    assert (tmp_path / "table" / "scores.png").stat().st_size > 1000


def test_seeds_are_averaged_case_by_case_and_their_spread_is_shown(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "holistic", better=0.0, seed=0)
    write_run(tmp_path / "b", "holistic", better=0.02, seed=1)
    write_run(tmp_path / "c", "holistic", better=0.04, seed=2, cases=CASES[1:])
    table = told_table(RaterTableOptions((tmp_path,), tmp_path / "table", **FEW))
    (entry,) = table["methods"]
    assert (entry["runs"], entry["seeds"], table["scores"]["qubiq_score"][0]["cases"]) == (3, 3, 12)
    # 0.71 for case00, and 0.71 + 0.01 k + 0.01 for the others: 0.775 + 11 / 1200
    assert table["scores"]["qubiq_score"][0]["mean"] == pytest.approx(0.765 + 11 / 1200)
    assert entry["sd_over_seeds"] == pytest.approx(0.02)  # over the eleven cases of all three
    assert "| 1,234 | 1.5 | 5 | 3 (sd 0.0200) | 12 |" in (tmp_path / "table" / "table.md").read_text()


def test_sets_far_more_diverse_than_the_raters_are_noted(tmp_path: Path) -> None:
    for name, diversity in (("holistic", 0.25), ("soft_label", 0.27)):
        folder = write_run(tmp_path / name, name, better=0.0, cases=CASES[:2])
        rows = [f"{case},0.8,{diversity},0.2" for case in CASES[:2]]
        columns = "id,qubiq_score,sample_diversity,rater_diversity"
        (folder / "evaluation" / "cases.csv").write_text("\n".join([columns, *rows]))
    table = told_table(RaterTableOptions((tmp_path,), tmp_path / "table", **FEW))
    (note,) = table["notes"]
    assert note.startswith("soft_label: diversity 0.270 is more than 1.3 times that of the raters, 0.200")
    assert [entry["too_diverse"] for entry in table["methods"]] == [False, True]
    page = (tmp_path / "table" / "table.md").read_text()
    assert "125% of raters' |" in page and "135% of raters', too diverse |" in page


def test_a_missing_file_of_raters_scores_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", "holistic", better=0.0)
    with pytest.raises(ResultsError, match=r"nothing.json is no scores.json"):
        rater_table(RaterTableOptions((folder,), tmp_path / "table", rater_scores=tmp_path / "nothing.json"))


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_run(tmp_path / "a", "holistic", better=0.0)
    assert main(["rater_table", str(tmp_path / "a"), "--output_dir", str(tmp_path / "table"), "--resamples", "50"]) == 0
    assert "| 1,234 | 1.5 | 5 |" in capsys.readouterr().out


def test_the_raters_row_is_of_the_task_of_the_runs(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", "holistic", better=0.0, task=2)
    scored = write_scores(tmp_path, task=2)
    content = json.loads(scored.read_text())
    first = {"task": 1, "scores": {"qubiq_score": {"raters": CEILING | {"mean": 0.11}}}}
    scored.write_text(json.dumps(content | {"tasks": [first, *content["tasks"]]}))
    table = told_table(RaterTableOptions((tmp_path / "runs",), tmp_path / "table", rater_scores=scored, **FEW))
    assert table["rater_row"]["qubiq_score"]["mean"] == 0.8
    scored.write_text(json.dumps(content | {"tasks": [first]}))
    with pytest.raises(
        ResultsError, match=r"no scores of task 2, which the runs are of, only of 1: run `score` with --tasks 2"
    ):
        told_table(RaterTableOptions((tmp_path / "runs",), tmp_path / "table", rater_scores=scored, **FEW))


def test_another_number_of_cases_behind_the_raters_row_is_told(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", "holistic", better=0.0)
    scored = write_scores(tmp_path, qubiq_score=CEILING | {"cases": 9})
    options = RaterTableOptions((tmp_path / "runs",), tmp_path / "table", rater_scores=scored, **FEW)
    (note,) = told_table(options)["notes"]
    assert "one more rater is over 9 cases" in note and note.endswith("the methods are over 12.")
    page = (tmp_path / "table" / "table.md").read_text()
    assert "| - | - | - | - | 9 |" in page and "over 9 cases" in page


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        ({"heads": 5, "samples": 0}, "sets of 5 masks under the V-statistic"),
        ({"heads": 5, "samples": 8}, "sets of 8 masks under the V-statistic"),
        ({"estimator": "U"}, "sets of 16 masks under the U-statistic"),
        (None, "sets of unknown size"),  # a file that does not say
        ({"heads": 5, "samples": 16}, ""),
    ],
)
def test_scores_of_sets_stand_beside_those_of_as_many_masks_alone(tmp_path: Path, sets: dict | None, told: str) -> None:
    write_run(tmp_path / "runs", "holistic", better=0.0)
    values = {"mean": 0.085, "low": 0.075, "high": 0.096, "cases": len(CASES)}
    ours = {
        "generalized_energy_distance": values,
        "sample_diversity": values | {"mean": 0.17},
        "hungarian_iou": CEILING,
    }
    scored = write_scores(tmp_path, **ours, **(sets or {}))
    if sets is None:
        content = json.loads(scored.read_text())
        del content["tasks"][0]["predicted"]
        scored.write_text(json.dumps(content))
    table = told_table(RaterTableOptions((tmp_path / "runs",), tmp_path / "table", rater_scores=scored, **FEW))
    page = (tmp_path / "table" / "table.md").read_text()
    assert table["rater_row"]["hungarian_iou"] == CEILING  # has no M
    assert ("sample_diversity" in table["rater_row"]) == ("0.085" in page) == (not told)
    assert [told in note and "`score` with --samples 16" in note for note in table["notes"]] == [True] * bool(told)


def test_methods_scored_on_different_cases_are_told_apart_from_better_ones(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "holistic", better=0.0, cases=CASES[:6])  # the hard ones
    write_run(tmp_path / "b", "combined", better=-0.01)
    table = told_table(
        RaterTableOptions(
            (
                tmp_path / "a",
                tmp_path / "b",
            ),
            tmp_path / "table",
            **FEW,
        )
    )
    (note,) = table["notes"]
    assert "(combined 12, holistic 6; 6 are common to all). Means over different cases do not compare" in note
    page = (tmp_path / "table" / "table.md").read_text()
    assert "| 1,234 | 1.5 | 5 | 1 | 6 |" in page and note.split(";")[0] in page
    assert table["pairs"][0]["mean"] == pytest.approx(-0.01)


def test_nothing_is_claimed_against_the_direction_of_the_test() -> None:
    # Of 40 cases five gain much and 35 lose a little: the mean rises, the rank sums say the contrary.
    gains = np.concatenate([0.15 + 0.01 * np.arange(5), -0.002 - 1e-5 * np.arange(35)])
    draw = module.Draw(None, 2000, 0)
    (pair,) = module._pairs(["a", "b"], np.stack([0.8 + gains, np.full(40, 0.8)])[:, None], draw)
    assert pair.low > 0 and pair.p_holm < 0.05 and pair.rank_biserial < 0
    assert not pair.claimed
    (pair,) = module._pairs(["a", "b"], np.stack([0.8 + np.abs(gains), np.full(40, 0.8)])[:, None], draw)
    assert pair.claimed


def test_differences_are_between_equal_seeds_and_against_the_best_of_each_score(tmp_path: Path) -> None:
    for seed, better in ((0, 0.03), (1, 0.05)):
        write_run(tmp_path / f"heads{seed}", "heads", better=better, seed=seed)
    write_run(tmp_path / "combined0", "combined", better=0.01, seed=0)
    write_run(tmp_path / "soft_label2", "soft_label", better=0.0, seed=2)
    table = told_table(RaterTableOptions((tmp_path,), tmp_path / "table", **FEW))
    pairs = {(pair["first"], pair["second"]): pair for pair in table["pairs"]}
    assert pairs["heads", "combined"]["mean"] == pytest.approx(0.02)  # of seed 0, not 0.03 of the means
    assert pairs["heads", "combined"]["by_seed"] == [pytest.approx(0.02)]
    assert pairs["heads", "soft_label"]["mean"] == pytest.approx(0.04)  # no seed in common
    assert pairs["heads", "soft_label"]["by_seed"] == []
    for score, sign in (("qubiq_score", -1), ("generalized_energy_distance", 1)):
        assert [pair["first"] for pair in table["against_best"][score]] == ["combined", "soft_label"]
        assert table["against_best"][score][0]["mean"] == pytest.approx(0.02 * sign)
    page = (tmp_path / "table" / "table.md").read_text()
    assert "| heads | best | best | best |" in page and "| combined | -0.020 (-0.020 to -0.020) p = 0.00098 |" in page


def test_one_more_rater_from_the_data_set_of_the_runs(tmp_path: Path) -> None:
    masks = {1: np.ones((4, 4)), 2: np.tri(4), 3: np.eye(4)}
    for case in CASES:
        write_case(tmp_path / "data" / "Testing" / case, masks)
    write_run(tmp_path / "runs", "heads", better=0.0, part="Testing")
    options = RaterTableOptions((tmp_path / "runs",), tmp_path / "table", targets=tmp_path / "data", **FEW)
    table = told_table(options)
    dice = (20 / 26 + 8 / 20 + 8 / 14) / 3  # 16, 10 and 4 pixels
    assert table["rater_row"]["rater_agreement"]["mean"] == pytest.approx(dice) and table["rater_row_cases"] == 12
    iou = (10 / 16 + 4 / 16 + 4 / 10) / 3
    assert table["rater_row"]["generalized_energy_distance"]["mean"] == pytest.approx((1 - iou) * (1 / 16 + 1 / 3))
    assert "| one more rater |" in (tmp_path / "table" / "table.md").read_text()
    (tmp_path / "data" / "Testing" / CASES[0]).rename(tmp_path / "elsewhere")
    with pytest.raises(ResultsError, match=r"no masks of 1 of the 12 cases of the runs \('?case00"):
        rater_table(options)
    with pytest.raises(ValueError, match="targets and rater_scores both give"):
        RaterTableOptions((tmp_path,), tmp_path, targets=tmp_path, rater_scores=tmp_path)


def test_published_figures_stand_below_with_their_protocol(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", "heads", better=0.0)
    path = tmp_path / "published.csv"
    path.write_text("method,source,protocol,hungarian_iou\nPHiSeg,a paper,100 samples,0.5\nSSN,another,U-statistic,\n")
    table = told_table(RaterTableOptions((tmp_path / "runs",), tmp_path / "table", published=path, **FEW))
    assert [row["scores"] for row in table["published"]] == [{"hungarian_iou": 0.5}, {}]
    page = (tmp_path / "table" / "table.md").read_text()
    assert "| PHiSeg | 0.5 | 100 samples | a paper |" in page and "| SSN | - | U-statistic | another |" in page
