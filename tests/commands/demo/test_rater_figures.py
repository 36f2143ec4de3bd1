"""Figures of methods for several raters."""

from __future__ import annotations

import numpy as np

from monai_ext.commands.demo.rater_figures import RaterCase, matrix_figure, outline_figure, rater_curve_figure


def test_the_best_rater_of_each_head_is_framed_and_a_rater_never_there_is_not():
    table = np.array([[0.9, np.nan], [0.4, 0.5]])
    (axis,) = matrix_figure(table, ["a", "b"]).axes
    framed = {text.get_text() for text in axis.texts if text.get_bbox_patch() is not None}
    assert [text.get_text() for text in axis.texts] == ["90.0", "nan", "40.0", "50.0"] and framed == {"90.0", "50.0"}


def test_a_rater_and_its_head_have_one_colour_and_empty_masks_no_outline():
    square = np.zeros((8, 8))
    square[2:6, 2:6] = 1
    case = RaterCase("c", square, {"a": square, "b": square * 0}, {"a": square}, square * 0.5, square * 0.25)
    figure = outline_figure([case])
    _, raters, heads, disagreement, uncertainty, _ = figure.axes
    (of_rater,), (of_head,) = raters.collections, heads.collections
    np.testing.assert_array_equal(of_rater.get_edgecolor(), of_head.get_edgecolor())
    for axis in (disagreement, uncertainty):
        np.testing.assert_array_equal(axis.images[0].get_array(), square * 0.25)
        assert axis.images[0].get_clim() == (0, 0.25)


def test_epochs_without_validation_are_left_out_of_the_curves():
    curves = {"a": np.array([np.nan, 0.5, 0.75])}
    left, right = rater_curve_figure(np.arange(1, 4), np.array([3.0, 2, 1]), curves).axes
    assert len(left.lines[0].get_xdata()) == 3
    np.testing.assert_array_equal(right.lines[0].get_xydata(), [[2, 50], [3, 75]])
