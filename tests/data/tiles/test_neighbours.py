"""Which tiles lie around each: addresses, rows from the south, numbers that are no places."""

from __future__ import annotations

import numpy as np
import pytest
from upscaling_toys import cut_into_tiles, noise, waves

from monai_ext.data.tiles.neighbours import TileGrid


@pytest.mark.parametrize("south", [False, True])
def test_neighbours_by_address(tmp_path, south):
    files = cut_into_tiles(tmp_path, waves(48, 48), south=south)
    grid = TileGrid([*files, tmp_path / "other.png"])
    assert (len(grid), grid.fits, grid.has_neighbours, grid.from_south) == (9, True, True, south)
    steps = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    assert grid.around(files[4]) == {step: file for step, file in zip(steps, files, strict=True) if step != (0, 0)}
    assert set(grid.around(files[0])) == {(0, 1), (1, 0), (1, 1)}
    found = [grid.address(file) for file in files]
    assert np.diff([address.y for address in found[::3]]).tolist() == [1, 1]
    assert [address.x for address in found[:3]] == [3, 4, 5] and {address.zoom for address in found} == {5}
    assert tmp_path / "other.png" not in grid


def test_numbers_that_are_no_places(tmp_path):
    assert not TileGrid(cut_into_tiles(tmp_path, noise(3, 64, 64))).fits
    alone = TileGrid(cut_into_tiles(tmp_path / "alone", waves(16, 16)))
    assert alone.fits and not alone.has_neighbours
    flat = TileGrid(cut_into_tiles(tmp_path / "flat", np.full((3, 32, 32), 7, np.uint8)))
    assert flat.fits and not flat.from_south
