"""Means, intervals and risk over cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scored_folders import rows_of, scored

from monai_ext.commands.scoring.summaries import group_labels
from monai_ext.metrics import area_under_risk_coverage


def test_means_and_risk_curve_are_those_of_the_table_of_cases(many):
    _, _, content = scored(many[1], many[0])
    rows, task = rows_of(many[1]), content["tasks"][0]
    for name in ("qubiq_score", "brier", "raters_ece"):
        own = task["scores"][name.removeprefix("raters_")]
        own = own["raters"] if name.startswith("raters_") else own
        values = np.array([float(row[name]) for row in rows])
        assert own["mean"] == pytest.approx(values.mean()) and own["sd"] == pytest.approx(values.std(ddof=1))
        assert values.min() < own["low"] < own["mean"] < own["high"] < values.max() and own["cases"] == 6
    confidence, dice = (torch.tensor([float(row[name]) for row in rows]) for name in ("confidence", "dice_consensus"))
    assert task["aurc"] == pytest.approx(area_under_risk_coverage(confidence, 1 - dice).item(), abs=1e-6)


def test_intervals_draw_groups_where_they_are_named(many):
    interval = scored(many[1], many[0], group="patient")[2]["tasks"][0]["scores"]["qubiq_score"]
    assert interval["low"] == interval["mean"] == interval["high"]  # one group of all
    assert group_labels(["patient0-1", "patient12-0"], r"patient\d+") == ["patient0", "patient12"]
    assert group_labels(["patient0-1"], r"patient(\d+)-") == ["0"]
