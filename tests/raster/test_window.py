"""A part of a raster: pixels, margins, place, and boxes in degrees."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
from upscaling_toys import needs_rasterio, noise, save_picture, save_raster, save_turned

from monai_ext.raster.images import ImageFileError
from monai_ext.raster.opening import open_raster
from monai_ext.raster.window import WindowRaster, window_of_box


@needs_rasterio
@pytest.mark.parametrize("kind", ["png", "tif", "turned"])
def test_a_window_has_what_lies_around_it_as_margins(tmp_path, kind):
    pixels, path = noise(3, 20, 30), tmp_path / f"a.{'png' if kind == 'png' else 'tif'}"
    if kind == "turned":
        save_turned(path, np.ascontiguousarray(pixels[:, ::-1, ::-1]), 3)
    else:
        (save_picture if kind == "png" else save_raster)(path, pixels)
    with closing(WindowRaster(open_raster(path), (2, 5, 20, 14), margin=4)) as raster:
        assert (raster.info.size, raster.info.margins, raster.info.origin) == ((14, 20), (4, 1, 2, 4), (5, 2))
        np.testing.assert_array_equal(raster.rows(-4, 15), pixels[:, 1:20, 0:26])
        np.testing.assert_array_equal(raster.rows(3, 5), pixels[:, 8:10, 0:26])
        if kind == "tif":
            assert raster.info.geo.transform == (0.5, 0, 400000 + 2 * 0.5, 0, -0.5, 4300000 - 5 * 0.5)
    with closing(open_raster(path)) as raster:
        for window in ((25, 0, 6, 5), (-1, 0, 5, 5), (0, 0, 5, 21), (0, 0, 0, 5)):
            with pytest.raises(ValueError, match=r"is empty or leaves .*a\.\w+, which has 30 x 20 pixels"):
                WindowRaster(raster, window)


@needs_rasterio
def test_a_box_in_degrees_covers_the_pixels_that_it_touches(tmp_path):
    from rasterio.warp import transform

    with closing(open_raster(save_raster(tmp_path / "a.tif", noise(1, 40, 60)))) as raster:
        info = raster.info
    x, y = 400000 + 0.5 * np.array([10.2, 29.8]), 4300000 - 0.5 * np.array([25.9, 5.1])
    (west, east), (south, north) = transform("EPSG:32618", "EPSG:4326", x, y)
    left, top, width, height = window_of_box(info, (west, south, east, north))
    assert (left, left + width) == (10, 30) and (top, top + height) in ((5, 26), (4, 26), (5, 27), (4, 27))
    assert window_of_box(info, (west - 1, south, east + 1, north))[::2] == (0, 60)
    for box, sentence in (
        ((east, south, west, north), "is empty: give W S E N in degrees"),
        ((west + 1, south, east + 1, north), "lies beside .*a.tif"),
    ):
        with pytest.raises(ValueError, match=sentence):
            window_of_box(info, box)
    with closing(open_raster(save_picture(tmp_path / "b.png", noise(1, 9, 9)))) as raster:
        with pytest.raises(ImageFileError, match="b.png has no coordinate system and transform: .*--window"):
            window_of_box(raster.info, (0, 0, 1, 1))
