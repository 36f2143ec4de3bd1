"""One axis cut into windows: few, equal, ending where the image ends."""

from __future__ import annotations

import pytest

from monai_ext.inferers.axis_windows import AxisWindows


def test_an_axis_is_cut_into_the_fewest_and_most_equal_windows():
    assert AxisWindows.cut(14, tile=6, overlap=2) == AxisWindows(edges=(0, 3, 7, 10, 14), context=1, size=6)
    assert AxisWindows.cut(10, tile=6, overlap=2) == AxisWindows(edges=(0, 5, 10), context=1, size=6)
    assert AxisWindows.cut(6, tile=6, overlap=2) == AxisWindows(edges=(0, 6), context=1, size=6)
    assert AxisWindows.cut(10, tile=8, overlap=2, multiple=4) == AxisWindows(edges=(0, 5, 10), context=1, size=8)


@pytest.mark.parametrize("length", range(1, 40))
def test_windows_have_one_size_and_context_where_the_image_goes_on(length):
    axis = AxisWindows.cut(length, tile=10, overlap=4)
    assert axis.size <= 10
    for index in range(axis.count):
        start, stop, (first, last) = axis.start(index), axis.stop(index), axis.reach(index)
        assert stop - start == min(axis.size, length) and 0 <= start <= first < last <= stop <= length
        assert first == max(axis.edges[index] - 2, 0) and last == min(axis.edges[index + 1] + 2, length)
        assert start + axis.offset(index) == axis.edges[index]


def test_positions_beyond_an_axis_are_mirrored_without_repeating_the_border():
    axis = AxisWindows.cut(4, tile=6, overlap=2)
    assert axis.mirrored(-4, 8).tolist() == [2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]
    assert AxisWindows.cut(1, tile=6, overlap=2).mirrored(-2, 3).tolist() == [0] * 5
