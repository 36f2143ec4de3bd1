"""Missing pixels take the nearest known value of their band."""

from __future__ import annotations

import numpy as np

from monai_ext.raster.missing_pixels import nearest_known


def test_the_nearest_known_value_of_the_same_band():
    values = np.array([[[1, 2, 3, 4]], [[5, 6, 7, 8]], [[9, 9, 9, 9]]], dtype=float)
    valid = np.array([[[True, False, False, True]], [[True, True, True, True]], [[False] * 4]])
    filled = nearest_known(values, valid, fallback=0.5)
    np.testing.assert_array_equal(filled, [[[1, 1, 4, 4]], [[5, 6, 7, 8]], [[0.5] * 4]])
    np.testing.assert_array_equal(nearest_known(values, valid)[2], values[2])
    assert values[0, 0, 1] == 2
