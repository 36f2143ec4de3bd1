"""A part of a raster, with what lies around it in the raster as context."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from monai_ext.raster.gdal import GdalRaster, require
from monai_ext.raster.images import ImageFileError
from monai_ext.raster.info import Raster, RasterInfo

__all__ = ["WindowRaster", "window_of_box"]

POINTS = 21  # along a side of a box, which is bent on the ground


class WindowRaster:
    """A window of a raster, see `Raster`; pixels around it are its margins. Of a file on a server the rest is not read.

    Args:
        whole: the raster, closed with this one.
        window: (column, row, width, height) in pixels.
        margin: pixels on each side that are context, as far as the raster reaches.

    Raises:
        ValueError: the window is empty or leaves the raster.
    """

    def __init__(self, whole: Raster, window: tuple[int, int, int, int], *, margin: int = 0):
        info, (left, top, width, height) = whole.info, window
        self._whole, self._top, self._left = whole, top, left
        below, beside = info.size[0] - top - height, info.size[1] - left - width
        if min(left, top, below, beside) < 0 or min(width, height) < 1:
            raise ValueError(
                f"window {left} {top} {width} {height} (column, row, width, height) is empty or leaves {info.path}, "
                f"which has {info.size[1]} x {info.size[0]} pixels."
            )
        above, below, before, after = (min(margin, side) for side in (top, below, left, beside))
        origin = info.origin[0] + top, info.origin[1] + left
        self.info = replace(info.part(top, left, (height, width)), margins=(above, below, before, after), origin=origin)

    def rows(self, top: int, bottom: int) -> np.ndarray:
        _, _, before, after = self.info.margins
        first, last = self._left - before, self._left + self.info.size[1] + after
        if isinstance(self._whole, GdalRaster):
            return self._whole.window(self._top + top, self._top + bottom, first, last)
        return self._whole.rows(self._top + top, self._top + bottom)[..., first:last]

    def close(self) -> None:
        self._whole.close()


def window_of_box(info: RasterInfo, box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """(column, row, width, height) of the pixels of an image that share ground with a box.

    Args:
        box: west, south, east, north in degrees.

    Raises:
        ValueError: the box is empty, or lies beside the image.
        ImageFileError: the image has no transform, or rasterio is not installed.
    """
    west, south, east, north = box
    if not (west < east and south < north and max(map(abs, box)) <= 180):
        raise ValueError(f"bbox {west:g} {south:g} {east:g} {north:g} is empty: give W S E N in degrees.")
    require(info.path)
    from rasterio.errors import RasterioError
    from rasterio.warp import transform

    if info.geo is None or info.geo.crs is None or info.geo.transform is None:
        raise ImageFileError(f"{info.path} has no coordinate system and transform: choose its part by --window.")
    across, up = np.linspace(west, east, POINTS), np.linspace(south, north, POINTS)
    longitudes = np.concatenate([across, across, np.full(POINTS, west), np.full(POINTS, east)])
    latitudes = np.concatenate([np.full(POINTS, south), np.full(POINTS, north), up, up])
    try:
        x, y = map(np.asarray, transform("EPSG:4326", info.geo.crs, longitudes, latitudes)[:2])
    except RasterioError as error:
        raise ValueError(f"bbox {west:g} {south:g} {east:g} {north:g} has no place in {info.path}.") from error
    a, b, c, d, e, f = info.geo.transform
    columns, rows = np.linalg.solve([[a, b], [d, e]], [x - c, y - f])
    height, width = info.size
    spans = []
    for places, side in ((columns, width), (rows, height)):
        low, high = float(places.min()), float(places.max())
        if not (math.isfinite(low + high) and low < side and high > 0):
            raise ValueError(f"bbox {west:g} {south:g} {east:g} {north:g} lies beside {info.path}.")
        spans.append((max(0, math.floor(low + 1e-6)), min(side, math.ceil(high - 1e-6))))
    (left, right), (top, bottom) = spans
    return left, top, right - left, bottom - top
