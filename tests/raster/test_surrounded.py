"""Margins of a raster from its neighbours: corners, alpha, what is no neighbour."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from upscaling_toys import noise

from monai_ext.raster.info import Alpha, GeoTags, RasterInfo
from monai_ext.raster.surrounded import SurroundedRaster, is_neighbour


class Held:
    """A raster of pixels in memory."""

    def __init__(self, pixels: np.ndarray, *, alpha: Alpha | None = None):
        bands = len(pixels) - (alpha is not None)
        self.pixels, self.closed = pixels, False
        self.info = RasterInfo(Path("a.png"), pixels.shape[1:], bands, pixels.dtype, (None,) * bands, alpha)

    def rows(self, top: int, bottom: int) -> np.ndarray:
        assert 0 <= top < bottom <= self.info.size[0]
        return self.pixels[:, top:bottom]

    def close(self) -> None:
        self.closed = True


MOSAIC = noise(3, 18, 24)


def part(down: int, right: int) -> np.ndarray:
    return MOSAIC[:, 6 + 6 * down : 12 + 6 * down, 8 + 8 * right : 16 + 8 * right]


def surrounded(there=lambda down, right: True, *, margin: int = 2) -> SurroundedRaster:
    def neighbour(down: int, right: int) -> Held | None:
        return Held(part(down, right)) if there(down, right) else None

    return SurroundedRaster(Held(part(0, 0)), neighbour, margin=margin, origin=(6, 8))


def beside(centre: Held, other: Held, place: tuple[int, int]) -> SurroundedRaster:
    return SurroundedRaster(centre, lambda *step: other if step == place else None, margin=4, origin=(0, 0))


@pytest.mark.parametrize("rows", [(-2, 8), (-2, 0), (-1, 3), (2, 4), (5, 7), (6, 8), (-2, -1)])
def test_rows_go_on_into_all_neighbours(rows):
    raster = surrounded()
    assert (raster.info.size, raster.info.margins, raster.info.origin) == ((6, 8), (2, 2, 2, 2), (6, 8))
    np.testing.assert_array_equal(raster.rows(*rows), MOSAIC[:, 6 + rows[0] : 6 + rows[1], 6:18])
    assert surrounded(margin=50).info.margins == (6, 6, 6, 6)


def test_sides_and_corners_that_are_missing():
    alone = surrounded(lambda down, right: False)
    assert alone.info.margins == (0, 0, 0, 0)
    np.testing.assert_array_equal(alone.rows(0, 6), part(0, 0))
    half = surrounded(lambda down, right: (down, right) in ((-1, 0), (0, 1), (1, 1)))
    assert half.info.margins == (2, 0, 0, 2)
    found = half.rows(-2, 6)
    np.testing.assert_array_equal(found[:, :, :8], MOSAIC[:, 4:12, 8:16])
    np.testing.assert_array_equal(found[:, 2:, 8:], MOSAIC[:, 6:12, 16:18])
    np.testing.assert_array_equal(found[:, :2, 8:], MOSAIC[:, 4:6, 15:16].repeat(2, axis=2))


def test_alpha_of_one_of_two_neighbours():
    alpha = np.where(np.arange(8) < 6, 255, 0).astype(np.uint8)[None, None].repeat(6, axis=1)
    seen = Held(np.concatenate([part(0, -1), alpha]), alpha="soft")  # its last two columns, at the border, are hidden
    plain = beside(Held(part(0, 0)), seen, (0, -1))
    assert seen.closed
    expected = part(0, -1)[..., [4, 5, 5, 5]]
    np.testing.assert_array_equal(plain.rows(0, 6)[..., :4], expected)
    own = Held(np.concatenate([part(0, 0), alpha]), alpha="soft")
    raster = beside(own, Held(part(0, 1)), (0, 1))
    np.testing.assert_array_equal(raster.rows(0, 6)[3, :, 8:], 255)


def test_what_is_no_neighbour():
    info, east = Held(part(0, 0)).info, (0, 1)
    assert is_neighbour(info, info, east) and is_neighbour(info, Held(part(0, 0)[:1]).info, east)
    for change in ({"size": (6, 9)}, {"dtype": np.dtype(np.uint16)}, {"bands": 4}, {"nodata": (0.0,) * 3}):
        assert not is_neighbour(info, replace(info, **change), east)
    placed = replace(info, geo=GeoTags(crs="A", transform=(2.0, 0.0, 100.0, 0.0, -2.0, 50.0)))
    beside = replace(info, geo=GeoTags(crs="A", transform=(2.0, 0.0, 116.0, 0.0, -2.0, 50.0)))
    assert is_neighbour(placed, beside, east) and not is_neighbour(placed, beside, (1, 0))
