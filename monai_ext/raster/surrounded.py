"""A raster with margins of its neighbours: the tile of a mosaic in its context."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import numpy as np

from monai_ext.raster.images import ImageFileError
from monai_ext.raster.info import Raster, RasterInfo, opaque
from monai_ext.raster.missing_pixels import nearest_known

__all__ = ["SurroundedRaster", "is_neighbour"]

Opener = Callable[[int, int], Raster | None]


class SurroundedRaster:
    """A raster that has the pixels of its neighbours as margins, see `RasterInfo.margins`.

    A side without a neighbour, or with one that cannot be read, has no margin. Where two sides have one and the
    neighbour between them is missing, the nearest pixels stand for the corner; what a neighbour's alpha hides is its
    nearest known colour, if the raster has no alpha itself. Only the margins are kept in memory.

    Args:
        centre: the raster itself, closed with this one.
        neighbour: opens the one that lies so many rasters below and to the right (-1, 0 or 1), as alike as
            `is_neighbour` wants it; None where there is none.
        margin: its pixels, on each side.
        origin: see `RasterInfo.origin`.
    """

    def __init__(self, centre: Raster, neighbour: Opener, *, margin: int, origin: tuple[int, int]):
        self._centre, self._neighbour = centre, neighbour
        self._margin = min(margin, *centre.info.size)
        self.info = centre.info
        sides = {place: self._part(*place) for place in ((-1, 0), (1, 0), (0, -1), (0, 1))}
        self._left, self._right = sides[0, -1], sides[0, 1]
        self._above, self._below = (self._row(down, sides[down, 0]) for down in (-1, 1))
        above, below, left, right = (0 if side is None else self._margin for side in sides.values())
        self.info = replace(centre.info, margins=(above, below, left, right), origin=origin)

    def rows(self, top: int, bottom: int) -> np.ndarray:
        height = self.info.size[0]
        first, last = max(top, 0), min(bottom, height)
        parts = []
        if self._above is not None and top < 0:
            parts.append(self._above[:, top + self._margin : min(bottom, 0) + self._margin])
        if first < last:
            middle = [self._centre.rows(first, last)]
            middle = middle if self._left is None else [self._left[:, first:last], *middle]
            middle = middle if self._right is None else [*middle, self._right[:, first:last]]
            parts.append(np.concatenate(middle, axis=2) if len(middle) > 1 else middle[0])
        if self._below is not None and bottom > height:
            parts.append(self._below[:, max(top - height, 0) : bottom - height])
        return np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]

    def close(self) -> None:
        self._centre.close()

    def _row(self, down: int, middle: np.ndarray | None) -> np.ndarray | None:
        """The margin above or below, corners included."""
        if middle is None:
            return None
        parts = [middle]
        for right, side in ((-1, self._left), (1, self._right)):
            if side is None:
                continue
            corner = self._part(down, right)
            if corner is None:
                corner = np.repeat(middle[..., :1] if right < 0 else middle[..., -1:], self._margin, axis=2)
            parts = [corner, *parts] if right < 0 else [*parts, corner]
        return np.concatenate(parts, axis=2)

    def _part(self, down: int, right: int) -> np.ndarray | None:
        """What the neighbour at that place has of the margins, in the planes of the centre."""
        (height, width), margin = self.info.size, self._margin
        rows = {-1: (height - margin, height), 0: (0, height), 1: (0, margin)}[down]
        columns = {-1: slice(width - margin, width), 0: slice(None), 1: slice(margin)}[right]
        try:
            raster = self._neighbour(down, right)
            if raster is None:
                return None
            with closing(raster):
                planes = raster.rows(*rows)[..., columns]
        except ImageFileError:  # reported where that raster itself is wanted
            return None
        return _in_planes_of(self.info, planes, raster.info)


def _in_planes_of(info: RasterInfo, planes: np.ndarray, own: RasterInfo) -> np.ndarray | None:
    """The planes of a neighbour as those of `info`; None where all of them are hidden and could not be marked so."""
    colours, alpha = planes[: own.bands], planes[own.bands :]
    if own.bands < info.bands:
        colours = np.repeat(colours, info.bands, axis=0)
    if info.alpha is None:
        if own.alpha is None:
            return np.ascontiguousarray(colours)
        return nearest_known(colours, alpha > 0) if alpha.any() else None
    if own.alpha is None:
        alpha = np.full_like(colours[:1], opaque(info.alpha, info.dtype))
    return np.concatenate([colours, alpha])


def is_neighbour(info: RasterInfo, other: RasterInfo, place: tuple[int, int]) -> bool:
    """Whether `other` may lie at `place`, so many rasters below and to the right of `info`.

    Both need one size, type and nodata, and the same bands, grey among colours apart; one of them may lack alpha. Two
    that are placed on the ground must touch there.
    """
    alike = (info.size, info.dtype, repr(info.nodata[:1])) == (other.size, other.dtype, repr(other.nodata[:1]))
    bands = other.bands == info.bands or (other.bands, info.bands) == (1, 3)
    alpha = info.alpha == other.alpha or None in (info.alpha, other.alpha)
    return alike and bands and alpha and _touches(info, other, place)


def _touches(info: RasterInfo, other: RasterInfo, place: tuple[int, int]) -> bool:
    if info.geo is None or other.geo is None or info.geo.transform is None or other.geo.transform is None:
        return True
    a, b, c, d, e, f = info.geo.transform
    row, column = place[0] * info.size[0], place[1] * info.size[1]
    expected = (a, b, c + a * column + b * row, d, e, f + d * column + e * row)
    pixel = max(abs(a), abs(b), abs(d), abs(e))
    return info.geo.crs == other.geo.crs and bool(np.allclose(other.geo.transform, expected, rtol=0, atol=pixel / 4))
