"""Undeclared collars."""

from __future__ import annotations

import numpy as np
import pytest
from tile_files import numbers

from monai_ext.data.tiles.collars import collar


@pytest.mark.parametrize(("dtype", "colour"), [(np.uint8, 0), (np.uint8, 255), (np.uint16, 0), (np.int16, 32767)])
def test_black_or_white_from_a_corner_is_a_collar(dtype, colour):
    tile = numbers(3, 40, 50, dtype=dtype) // 4 + 9
    wedge = np.add.outer(np.arange(40), np.arange(50)) < 25
    tile[:, wedge] = colour
    tile[:, 20:30, 20:30] = colour  # a roof or shade inside
    assert np.array_equal(collar(tile), wedge)


def test_what_is_no_collar():
    tile = numbers(3, 64, 64) // 2 + 20
    for place in (np.s_[:, 0, 0], np.s_[:, :20, 20:40], np.s_[:1, :20]):  # too small, off the corners, one band
        other = tile.copy()
        other[place] = 0
        assert not collar(other).any()
    assert not collar(np.zeros((1, 8, 8), np.float32)).any()  # floats mark missing pixels otherwise


def test_a_lossy_collar_takes_what_was_mixed_with_it():
    tile = np.full((3, 64, 64), 90, np.uint8)
    tile[:, :24] = numbers(3, 24, 64) % 4
    assert collar(tile, lossy=True)[:, 0].sum() == 24 + 8
