"""Metadata of an image of any size and kind, and the protocol by which its rows are read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np

from monai_ext.raster.remote import Source

__all__ = ["Alpha", "BandTags", "GeoTags", "Raster", "RasterInfo", "Turn", "opaque", "picture_tags"]

Alpha = Literal["soft", "hard", "mask"]
COUNTED = {"RPC": ("LINE_OFF", "SAMP_OFF"), "GEOLOCATION": ("LINE_OFFSET", "PIXEL_OFFSET")}  # in pixels, by domain


@dataclass(frozen=True)
class BandTags:
    """Metadata of one band, in GDAL's terms.

    Attributes:
        plane: its place in `Raster.rows`.
        colour: "red", "alpha", "undefined" ...
    """

    plane: int
    colour: str
    description: str | None = None
    unit: str | None = None
    scale: float = 1.0
    offset: float = 0.0
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GeoTags:
    """Metadata of a raster besides its pixels, in GDAL's terms.

    Attributes:
        crs: WKT of the coordinate reference system, None without.
        transform: (a, b, c, d, e, f): x = a column + b row + c, y = d column + e row + f, from pixel corners.
        gcps: ground control points (row, column, x, y, z); gcp_crs: WKT of theirs.
        tags: metadata by domain; "" is the default one.
        bands: alpha included, in the file's order.
    """

    crs: str | None = None
    transform: tuple[float, ...] | None = None
    gcps: tuple[tuple[float, ...], ...] = ()
    gcp_crs: str | None = None
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    bands: tuple[BandTags, ...] = ()

    @property
    def placed(self) -> bool:
        """Whether it places the image on the ground."""
        return bool(self.crs or self.transform or self.gcps or self.tags.get("RPC"))

    def from_pixel(self, top: float, left: float) -> GeoTags:
        """The tags of a part of the image that begins at this row and column."""
        transform = self.transform
        if transform is not None:
            a, b, c, d, e, f = transform
            transform = (a, b, c + a * left + b * top, d, e, f + d * left + e * top)
        gcps = tuple((row - top, column - left, *place) for row, column, *place in self.gcps)
        tags = dict(self.tags)
        for domain, axes in COUNTED.items():
            if domain in tags:
                tags[domain] = tags[domain] | _shifted(tags[domain], zip(axes, (top, left), strict=True))
        return replace(self, transform=transform, gcps=gcps, tags=tags)


def _shifted(tags: dict[str, str], steps: Iterable[tuple[str, float]]) -> dict[str, str]:
    shifted = {}
    for key, step in steps:
        with suppress(KeyError, ValueError):
            shifted[key] = repr(float(tags[key]) - step)
    return shifted


@dataclass(frozen=True)
class RasterInfo:
    """Metadata of an image, known before its pixels are read.

    Attributes:
        path: its file, or where it comes from.
        size: (H, W), upright.
        bands: number of bands, without alpha.
        dtype: of the pixels.
        nodata: per band the value that marks missing pixels, or None.
        alpha: what kind of coverage follows the bands in `Raster.rows`: "soft" (transparency of a picture), "hard" (a
            raster's alpha band), "mask" (a raster's mask, 0 or 255, in int8 0 or 127, kept as a mask), or None.
        geo: see `GeoTags`; None for pictures, unless a file beside them places them on the ground.
        picture: what Pillow writes beside the pixels: icc_profile, exif, dpi.
        bits: that whole numbers use, where these are fewer than those of the type and a tag has their number.
        margins: rows above and below, columns on the left and right, that `Raster.rows` has beyond `size`: pixels of
            neighbouring images, as context.
        origin: (row, column) of the image's first pixel on the plane that it shares with its neighbours.
    """

    path: Source
    size: tuple[int, int]
    bands: int
    dtype: np.dtype
    nodata: tuple[float | None, ...]
    alpha: Alpha | None = None
    geo: GeoTags | None = None
    picture: dict[str, Any] = field(default_factory=dict)
    bits: int | None = None
    margins: tuple[int, int, int, int] = (0, 0, 0, 0)
    origin: tuple[int, int] = (0, 0)

    @property
    def planes(self) -> int:
        """Number of bands, alpha or mask included."""
        return self.bands + (self.alpha is not None)

    def part(self, top: float, left: float, size: tuple[int, int]) -> RasterInfo:
        """Metadata of a part of the image: `size` (H, W) from this row and column on, without margins."""
        geo = None if self.geo is None else self.geo.from_pixel(top, left)
        return replace(self, size=size, geo=geo, margins=(0, 0, 0, 0))


def opaque(alpha: Alpha | None, dtype: np.dtype) -> float:
    """What an alpha channel of this kind and type holds where nothing shines through."""
    highest = float(np.iinfo(dtype).max) if dtype.kind in "iu" else math.inf
    return min(highest, 255.0) if alpha == "mask" else 1.0 if math.isinf(highest) else highest


def picture_tags(info: RasterInfo) -> GeoTags:
    """A picture's colours in GDAL's terms."""
    colours = ["gray"] if info.bands == 1 else ["red", "green", "blue"]
    if info.alpha:
        colours = [*colours, "alpha"][: info.planes]
    return GeoTags(bands=tuple(BandTags(plane, colour) for plane, colour in enumerate(colours)))


@dataclass(frozen=True)
class Turn:
    """How the pixels of a file become upright: rows and columns are swapped, then axes are mirrored.

    Attributes:
        transposed: whether the file's rows are columns of the upright image.
        mirrored: whether the upright image's rows, and its columns, run from the last to the first.
    """

    transposed: bool = False
    mirrored: tuple[bool, bool] = (False, False)

    @classmethod
    def of(cls, orientation: int) -> Turn:
        """The turn of an EXIF orientation 1 ... 8; none for other numbers."""
        if orientation not in range(1, 9):
            return cls()
        return cls(orientation >= 5, (orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)))

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Upright (H, W) of a file's height and width."""
        return (width, height) if self.transposed else (height, width)

    def window(self, top: int, bottom: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """(column, row, width, height) in the file of rows [top, bottom) of the upright image of `size` (H, W)."""
        height, width = size
        first = height - bottom if self.mirrored[0] else top
        return (first, 0, bottom - top, width) if self.transposed else (0, first, width, bottom - top)

    def upright(self, planes: np.ndarray) -> np.ndarray:
        """A window of the file (planes, h, w), turned: (planes, h, w) or (planes, w, h)."""
        if self == Turn():
            return planes
        turned = planes.swapaxes(1, 2) if self.transposed else planes
        rows, columns = (slice(None, None, -1 if backwards else None) for backwards in self.mirrored)
        return np.ascontiguousarray(turned[:, rows, columns])

    def geo(self, geo: GeoTags, size: tuple[int, int]) -> GeoTags:
        """The georeference of a file's pixels as one of the upright image of `size` (H, W); RPC are not turned."""
        height, width = size

        def moved(row: float, column: float) -> tuple[float, float]:
            row, column = (column, row) if self.transposed else (row, column)
            return height - row if self.mirrored[0] else row, width - column if self.mirrored[1] else column

        gcps = tuple((*moved(row, column), *place) for row, column, *place in geo.gcps)
        if geo.transform is None:
            return replace(geo, gcps=gcps)
        a, b, c, d, e, f = geo.transform
        # What a step down and one to the right in the upright image are in the file, and where its corner lies there.
        down, right = (-1.0 if backwards else 1.0 for backwards in self.mirrored)
        row, column = height * self.mirrored[0], width * self.mirrored[1]
        if self.transposed:
            transform = (b * right, a * down, c + a * row + b * column, e * right, d * down, f + d * row + e * column)
        else:
            transform = (a * right, b * down, c + a * column + b * row, d * right, e * down, f + d * column + e * row)
        return replace(geo, gcps=gcps, transform=transform)


class Raster(Protocol):
    """An open image."""

    info: RasterInfo

    def rows(self, top: int, bottom: int) -> np.ndarray:
        """Rows [top, bottom): (planes, bottom - top, W), bands first, then alpha.

        With margins, `top` may be negative, `bottom` exceed H, and the columns of the margins are there.

        Raises:
            ImageFileError: they cannot be read.
        """
        ...

    def close(self) -> None:
        """Close the file."""
        ...
