from __future__ import annotations

import numpy as np

from monai_ext.data.layouts import FoundCase, MaskKey, Outlines, mask_of


def test_outlines_are_the_pixels_whose_centre_lies_inside():
    triangle = np.array([(0.0, 0.0), (4.0, 0.0), (0.0, 4.0)])  # x + y < 4
    rows, columns = np.mgrid[:5, :6] + 0.5
    drawn = Outlines([triangle]).drawn((5, 6))
    inside = rows + columns < 4
    on_edge = rows + columns == 4
    assert np.array_equal(drawn[~on_edge] > 0, inside[~on_edge])
    further = np.zeros((5, 6), np.uint8)
    further[4, 5] = 3
    both = Outlines([triangle], [further]).drawn((5, 6))
    assert both[4, 5] == 1 and both.sum() == drawn.sum() + 1


def test_pixels_above_zero_are_the_mask():
    case = FoundCase("a", np.zeros((2, 2), np.uint8), {MaskKey("1"): np.array([[0, 7], [0, 1]], np.uint8)})
    assert mask_of(case, MaskKey("1")).tolist() == [[0, 1], [0, 1]]
