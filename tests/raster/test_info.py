"""The turn of an EXIF orientation and parts of images, for pixels and georeference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monai_ext.raster.info import GeoTags, RasterInfo, Turn


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_georeference_names_the_same_place_for_the_same_pixel(orientation):
    turn, stored = Turn.of(orientation), np.arange(12).reshape(1, 3, 4)
    upright = turn.upright(stored)[0]
    assert upright.shape == turn.size(3, 4)
    file = (3.0, 0.5, 100.0, 0.25, -2.0, 900.0)
    points = tuple((row + 0.5, column + 0.5, 10.0 * row, 10.0 * column, 0.0) for row in range(3) for column in range(4))
    geo = turn.geo(GeoTags(transform=file, gcps=points), upright.shape)

    def place(transform: tuple[float, ...], row: int, column: int) -> tuple[float, float]:
        a, b, c, d, e, f = transform
        x, y = column + 0.5, row + 0.5
        return a * x + b * y + c, d * x + e * y + f

    for number in range(12):
        row, column = np.argwhere(upright == number)[0]
        assert place(geo.transform, row, column) == pytest.approx(place(file, *divmod(number, 4)))
        at_row, at_column, x, y, _ = geo.gcps[number]
        assert (at_row, at_column) == (row + 0.5, column + 0.5) and (x, y) == points[number][2:4]


def test_a_part_of_an_image_stays_where_it_is_on_the_ground():
    rpc = {"LINE_OFF": "10", "SAMP_OFF": "20.5", "LINE_SCALE": "7"}
    geo = GeoTags(
        transform=(3.0, 0.5, 100.0, 0.25, -2.0, 900.0),
        gcps=((5.0, 6.0, 1.0, 2.0, 3.0),),
        tags={"RPC": rpc, "GEOLOCATION": {"LINE_OFFSET": "0", "PIXEL_OFFSET": "none"}},
    )
    info = RasterInfo(Path("a.tif"), (40, 50), 1, np.dtype(np.uint8), (None,), geo=geo, margins=(1, 1, 1, 1))
    part = info.part(4, 2, (8, 9))
    assert (part.size, part.margins) == ((8, 9), (0, 0, 0, 0))
    assert part.geo.transform == (3.0, 0.5, 100 + 2 * 3 + 4 * 0.5, 0.25, -2.0, 900 + 2 * 0.25 - 4 * 2)
    assert part.geo.gcps == ((1.0, 4.0, 1.0, 2.0, 3.0),)
    assert part.geo.tags["RPC"] == {"LINE_OFF": "6.0", "SAMP_OFF": "18.5", "LINE_SCALE": "7"}
    assert part.geo.tags["GEOLOCATION"] == {"LINE_OFFSET": "-4.0", "PIXEL_OFFSET": "none"}
