"""Figures show what they are given."""

from __future__ import annotations

import numpy as np
from drawn_masks import square_at

from monai_ext.commands.agreement.figures import CasePanel, case_figure, habit_figure, pair_figure, size_figure
from monai_ext.commands.scoring.records import Interval


def test_cases_are_cut_to_their_masks_and_a_suspect_is_drawn_thick():
    masks = {"rater 1": square_at(10, 10, 6, 64), "rater 2": square_at(12, 10, 6, 64)}
    image = np.arange(64 * 64, dtype=float).reshape(64, 64)
    panels = [CasePanel("case $1$", image, masks), CasePanel("case02", image, masks, suspect="rater 2")]
    figure = case_figure(panels)
    first, second = figure.axes
    assert first.get_visible() and first.images[0].get_array().shape[0] < 24
    widths = [float(np.max(line.get_linewidth())) for line in second.collections]
    assert widths[1] > 2 * widths[0] and first.get_title() == r"case \$1\$"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["rater 1", "rater 2"]


def test_empty_masks_have_no_outline():
    figure = case_figure([CasePanel("a", np.zeros((8, 8)), {"rater 1": np.zeros((8, 8))})])
    assert not figure.axes[0].collections and figure.axes[0].images[0].get_array().shape == (8, 8)


def test_pairs_habits_and_sizes_have_a_mark_for_each_number():
    table = np.array([[np.nan, 0.8], [0.8, np.nan]])
    assert [text.get_text() for text in pair_figure(table, [1, 4], title="Dice").axes[0].texts] == ["0.800"] * 2
    interval = Interval(mean=0.1, low=0.0, high=0.2, cases=3)
    figure = habit_figure({"size": [interval, Interval()], "over": [interval, interval]}, [1, 4])
    assert [len(axis.lines) for axis in figure.axes] == [3, 4]  # interval and mean; the line at 0 of sizes
    histogram, points = size_figure(np.array([0.5, np.nan, 0.9]), np.array([0.1, 0.2, 0.0])).axes
    assert sum(bar.get_height() for bar in histogram.patches) == 2 and len(points.collections[0].get_offsets()) == 1
