"""One axis cut into windows: few, equal, mirrored at the borders."""

from __future__ import annotations

from monai_ext.inferers.axis_windows import AxisWindows


def test_an_axis_is_cut_into_the_fewest_and_most_equal_windows():
    assert AxisWindows.cut(10, tile=6, overlap=2) == AxisWindows(edges=(0, 3, 6, 10), context=1, size=6)
    assert AxisWindows.cut(4, tile=6, overlap=2) == AxisWindows(edges=(0, 4), context=1, size=6)
    assert AxisWindows.cut(10, tile=8, overlap=2, multiple=4) == AxisWindows(edges=(0, 5, 10), context=1, size=8)


def test_positions_beyond_an_axis_are_mirrored_without_repeating_the_border():
    axis = AxisWindows.cut(4, tile=6, overlap=2)
    assert axis.mirrored(-4, 8).tolist() == [2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]
    assert AxisWindows.cut(1, tile=6, overlap=2).mirrored(-2, 3).tolist() == [0] * 5
