"""Figures of a comparison."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from monai_ext.commands.comparison.figures import CaseRow, case_figure, dice_figure, pair_figure
from monai_ext.commands.comparison.report import report
from monai_ext.commands.comparison.summaries import PairSummary
from monai_ext.commands.plotting import OKABE_ITO, colours_of
from monai_ext.handlers import PredictionWriter
from monai_ext.transforms import KeepCentralComponentd


def test_the_case_figure_binarises_above_one_half_and_frames_in_the_losses_colour(runs, without_figures):
    report(runs)
    axes = np.array(without_figures[2].axes[:-1]).reshape(
        6, 8
    )  # image, truth, 3 binary, 3 probability; colour bar last
    titles = [axis.get_title() for axis in axes[0]]
    assert titles[:3] == ["Image", "Target", "BCE\nbinary"] and titles[-1] == "Jaccard\nprobability"
    odd, even = axes[1, 2].images[0].get_array(), axes[0, 2].images[0].get_array()  # case21 (200) and case38 (100)
    assert odd.sum() == 6 * 8 and even.sum() == 0
    frame = axes[0, 3].spines["top"].get_edgecolor()
    assert np.allclose(frame[:3], [int(OKABE_ITO[1][i : i + 2], 16) / 255 for i in (1, 3, 5)])


def test_the_binary_picture_is_the_mask_that_is_written_with_its_holes_filled(tmp_path):
    certain = torch.full((1, 400, 500), 0.01)
    certain[:, 100:300, 100:300] = 0.99
    certain[:, 180:200, 180:200] = 0.02  # a hole
    item = {"pred": KeepCentralComponentd("pred")({"pred": certain})["pred"]}
    writer = PredictionWriter(tmp_path)
    writer.write(SimpleNamespace(state=SimpleNamespace(batch=[{"id": "a"}], output=[item])))
    mask, probability = tmp_path / "masks/a.png", tmp_path / "probabilities/a.png"
    row = CaseRow("a", image=mask, label=mask, probabilities={"demo": probability}, dice={"demo": 1.0})
    axes = case_figure([row], {"demo": "Demo"}, colours_of(["demo"])).axes
    assert np.array_equal((np.asarray(Image.open(probability)) > 127.5) * 255, np.asarray(Image.open(mask)))
    assert np.array_equal(axes[2].images[0].get_array(), axes[1].images[0].get_array())  # both made smaller


def test_axes_carry_units_and_counts():
    dice = {"bce": np.array([0.5, 0.7, 0.9]), "new": np.empty(0)}
    axis = dice_figure(dice, {"bce": "BCE", "new": "New"}, colours_of(["bce", "new"])).axes[0]
    assert axis.get_ylabel() == "Dice per case (%)"
    assert [label.get_text() for label in axis.get_xticklabels()] == ["BCE\nn = 3", "New\nn = 0"]
    assert [text.get_text() for text in axis.texts] == ["70.0"]
    pair = PairSummary(
        metric="dice", first="bce", second="new", difference=0.01, low=0.005, high=0.015, cases=3, n=3, p=0.25,
        p_holm=0.25, rank_biserial=1.0, folds_for_first=1, folds=1,
    )  # fmt: skip
    axis = pair_figure({"BCE v New": pair}, cases="n = 3 cases").axes[0]
    assert axis.get_xlabel().endswith("(percentage points), n = 3 cases")
    assert [text.get_text() for text in axis.texts] == ["p (Holm) = 0.250"]
    interval, point = axis.lines[1:]
    assert list(interval.get_xdata()) == [0.5, 1.5] and list(point.get_xdata()) == [1.0]
    assert point.get_markerfacecolor() == "white"
