"""Figures of predicted uncertainty."""

from __future__ import annotations

from monai_ext.handlers.super_resolution.uncertainty_figures import reliability_figure, sparsification_figure


def test_figures_show_the_numbers_they_are_given():
    curve = ([0.0, 0.5, 1.0], [0.0, 0.4, 1.0])
    axis = reliability_figure({"test": {"total": curve}}, {"test": 0.91}, nominal=0.9).axes[0]
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axis.lines}
    assert drawn["total"] == [[0, 0], [50, 40], [100, 100]] and drawn["total, after calibration"] == [[90, 91]]
    axis = sparsification_figure({"test": {"total": curve}}, {"test": curve}).axes[0]
    assert {line.get_label() for line in axis.lines} == {"random order", "total", "oracle"}
    assert axis.lines[1].get_xydata().tolist() == [[0, 0], [50, 0.4], [100, 1]]
