"""Scores of predictions for several raters, counted by hand."""

from __future__ import annotations

import csv
import json
import math

import pytest
import torch
from ignite.engine import Engine
from rater_outputs import engine
from torch import Tensor

from monai_ext.handlers.raters.scores import MeanRaterScores, RaterReport, prediction_scores
from monai_ext.metrics import calibration_scores, dice_per_rater, hungarian_iou, qubiq_score, rater_agreement


def row(*values: int) -> Tensor:
    """A mask of one row of pixels, (1, W)."""
    return torch.tensor([values])


# Two cases of two raters, four pixels; the second rater is missing from the second case.
MASKS = torch.stack([torch.stack([row(1, 1, 0, 0), row(1, 0, 0, 0)]), torch.stack([row(0, 1, 1, 0), row(1, 1, 1, 1)])])


PRESENCE = torch.tensor([[True, True], [True, False]])


HEADS = torch.tensor(
    [[[[0.9, 0.8, 0.1, 0.2]], [[0.7, 0.6, 0.1, 0.1]]], [[[0.1, 0.9, 0.4, 0.2]], [[0.2, 0.3, 0.1, 0.1]]]]
)


ANSWERS = {"probability": HEADS.mean(1, keepdim=True), "heads": HEADS, "samples": HEADS[:, [0, 1, 0]]}


LABEL = {"masks": MASKS, "presence": PRESENCE}


def one_by_one() -> list[dict]:
    return [
        {
            "pred": {name: maps[i : i + 1] for name, maps in ANSWERS.items()},
            "label": {name: values[i : i + 1] for name, values in LABEL.items()},
            "image": torch.rand(1, 1, 1, 4),
        }
        for i in range(2)
    ]


def scored(raters: list[int] | None = (1, 2), outputs: list[dict] | None = None) -> tuple[Engine, MeanRaterScores]:
    made, metric = engine(outputs or one_by_one(), ids=[["b"], ["a"]]), MeanRaterScores(raters)
    metric.attach(made, "val_qubiq_score")
    return made, metric


def test_scores_of_a_case_counted_by_hand():
    scores = prediction_scores(torch.cat([*ANSWERS.values()], 1), MASKS, presence=PRESENCE, heads=2)
    # head 0 draws 1100 and head 1 1100 in the first case; 0100 and 0000 in the second
    expected = [[1.0, 2 / 3], [2 / 3, math.nan]]
    torch.testing.assert_close(scores["dice_per_rater"], torch.tensor(expected, dtype=torch.float64), equal_nan=True)
    table = [[[1.0, 2 / 3], [1.0, 2 / 3]], [[2 / 3, math.nan], [0.0, math.nan]]]
    torch.testing.assert_close(scores["heads_by_raters"], torch.tensor(table, dtype=torch.float64), equal_nan=True)
    # no head is nearer to rater 1 than the other in the first case; in the second the own one is, by 2 / 3
    assert scores["own_head_gain"].tolist() == [pytest.approx((1 - 1 + 2 / 3 - 2 / 3) / 2), pytest.approx(2 / 3)]
    # majority of (1100, 1000) with half sufficing is 1100; p is .8 .7 .1 .15
    assert scores["dice_consensus"].tolist() == [1.0, pytest.approx(2 / 3)]
    assert scores["generalized_energy_distance"][0].item() == pytest.approx(2 * 0.25 - 0 - 0.25)


def test_distances_between_boundaries_are_measured_where_a_tolerance_is_given():
    predictions = torch.cat([*ANSWERS.values()], 1)
    scores = prediction_scores(predictions, MASKS, presence=PRESENCE, heads=2, tolerance=0.0, spacing=(1.0, 3.0))
    # heads 1100, 1100 against 1100, 1000: the pixel beside the other mask is one of width 3 away from it
    assert scores["hd95"][0].item() == pytest.approx((0 + 0.95 * 3) / 2)
    assert scores["assd"][0].item() == pytest.approx((0 + 3 / 3) / 2)
    assert scores["rater_hd95"][0].item() == pytest.approx(0.95 * 3) and scores["rater_assd"][1].isnan()
    assert "hd95" not in prediction_scores(predictions, MASKS, presence=PRESENCE, heads=2)


def test_scores_are_those_of_the_metrics_and_of_missing_raters_nothing_is_heard():
    made, metric = scored()
    made.validate()
    per_case, metrics = metric.per_case(), made.state.metrics
    wanted = {
        "qubiq_score": qubiq_score(ANSWERS["probability"], MASKS, presence=PRESENCE),
        "hungarian_iou": hungarian_iou(ANSWERS["samples"] > 0.5, MASKS, presence=PRESENCE),
        "rater_agreement": rater_agreement(MASKS, presence=PRESENCE),
        "ece": calibration_scores(ANSWERS["probability"], MASKS, presence=PRESENCE)["ece"],
    }
    for name, values in wanted.items():
        torch.testing.assert_close(per_case[name], values, equal_nan=True)
        assert metrics[f"val_{name}"] == pytest.approx(values.nanmean().item())
    assert metrics["val_dice_rater01"] == pytest.approx((1 + 2 / 3) / 2)
    assert metrics["val_dice_rater02"] == pytest.approx(2 / 3)  # from the one case that there is
    assert metrics["val_dice"] == pytest.approx((5 / 6 + 2 / 3) / 2)
    before = dict(metrics)
    outputs = one_by_one()
    outputs[1]["label"]["masks"] = MASKS[1:] * torch.tensor([1, 0])[None, :, None, None]
    made, _ = scored(outputs=outputs)
    made.validate()
    assert made.state.metrics == pytest.approx(before, nan_ok=True)


def test_a_method_with_one_map_is_compared_with_every_rater_by_that_map():
    outputs = one_by_one()
    for output in outputs:
        del output["pred"]["heads"]
    made, metric = scored(outputs=outputs)
    made.validate()
    dice = dice_per_rater(ANSWERS["probability"] > 0.5, MASKS, presence=PRESENCE)
    torch.testing.assert_close(metric.per_case()["dice_per_rater"], dice, equal_nan=True)
    assert "heads_by_raters" not in metric.per_case()


def test_anonymous_raters_have_no_curves_of_their_own():
    made, _ = scored(raters=None)
    made.validate()
    assert "val_dice" in made.state.metrics and not [name for name in made.state.metrics if "rater0" in name]


def test_a_nan_in_the_answers_leaves_its_case_without_value_but_not_the_others():
    outputs = one_by_one()
    outputs[1]["pred"] = {name: maps.clone() for name, maps in outputs[1]["pred"].items()}
    outputs[1]["pred"]["samples"][0, 0, 0, 0] = torch.nan
    made, metric = scored(outputs=outputs)
    made.validate()
    per_case = metric.per_case()
    assert per_case["hungarian_iou"].isnan().tolist() == per_case["qubiq_score"].isnan().tolist() == [False, True]
    assert not per_case["leave_one_out_dice"][0].isnan()


def test_a_case_without_raters_has_no_score_with_them():
    presence = torch.tensor([[True, True], [False, False]])
    scores = prediction_scores(torch.cat([*ANSWERS.values()], 1), MASKS, presence=presence, heads=2)
    known = {name for name, values in scores.items() if not values[1].isnan().all()}
    assert known == {"sample_diversity"} and scores["dice_consensus"][0] == 1.0


def test_wrong_numbers_of_raters_and_unknown_scores_are_refused():
    made, _ = scored(raters=[1, 2, 3])
    with pytest.raises(ValueError, match="masks of 2 raters, but raters="):
        made.validate()
    made, metric = scored()
    metric.key = "beauty"
    with pytest.raises(ValueError, match="key='beauty'.*qubiq_score"):
        made.validate()


def test_report_has_a_row_for_each_case_and_a_summary_with_every_convention(tmp_path):
    made, metric = scored(raters=[3, 7])
    RaterReport(tmp_path, metric, settings={"method": "made up"}).attach(made)
    made.validate()
    with (tmp_path / "cases.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["id"] for line in table] == ["a", "b"]  # batches came as b, a
    assert float(table[1]["dice_rater07"]) == pytest.approx(2 / 3, abs=1e-6) and table[0]["dice_rater07"] == ""
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["settings"] == {"method": "made up"} and summary["parameters"] == 8
    assert (summary["cases"], summary["samples"], summary["raters"]) == (2, 3, [3, 7])
    assert summary["scores"]["dice_rater07"] == {"mean": 0.666667, "sd": None, "cases": 1}
    spread = summary["scores"]["dice"]
    assert spread["mean"] == pytest.approx(0.75) and spread["sd"] == pytest.approx(1 / 6 / math.sqrt(2), abs=1e-6)
    assert summary["heads_by_raters"] == [[pytest.approx(5 / 6), pytest.approx(2 / 3)], [0.5, pytest.approx(2 / 3)]]
    assert summary["rater_ceiling"]["rater_agreement"] == {"mean": 0.666667, "sd": None, "cases": 1}
    assert {"qubiq_score", "sets", "calibration", "empty masks"} <= set(summary["conventions"])
