"""What an image of any size and kind says of itself, and how its rows are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

__all__ = ["GeoTags", "Raster", "RasterInfo", "picture_tags"]


@dataclass(frozen=True)
class GeoTags:
    """What a raster says besides its pixels, in GDAL's words.

    Attributes:
        crs: WKT of the coordinate reference system, None without.
        transform: (a, b, c, d, e, f): x = a column + b row + c, y = d column + e row + f, from pixel corners.
        gcps: ground control points (row, column, x, y, z); gcp_crs: WKT of theirs.
        tags: metadata by domain; "" is the default one.
        band_tags, descriptions, units, scales, offsets, colours: one per band, alpha included, in the file's order.
        order: for each band in the file's order its place in `Raster.rows`.
    """

    crs: str | None = None
    transform: tuple[float, ...] | None = None
    gcps: tuple[tuple[float, ...], ...] = ()
    gcp_crs: str | None = None
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    band_tags: tuple[dict[str, str], ...] = ()
    descriptions: tuple[str | None, ...] = ()
    units: tuple[str | None, ...] = ()
    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()
    colours: tuple[str, ...] = ()
    order: tuple[int, ...] = ()


@dataclass(frozen=True)
class RasterInfo:
    """What is known of an image before its pixels are read.

    Attributes:
        path: its file.
        size: (H, W), upright.
        bands: number of bands, without alpha.
        dtype: of the pixels.
        nodata: per band the value that marks missing pixels, or None.
        alpha: what kind of coverage follows the bands in `Raster.rows`: "soft" (transparency of a picture), "hard" (a
            raster's alpha band), "mask" (a raster's mask, 0 or 255, kept as a mask), or None.
        geo: see `GeoTags`; None for pictures.
        picture: what Pillow is to write beside the pixels: icc_profile, exif, dpi.
    """

    path: Path
    size: tuple[int, int]
    bands: int
    dtype: np.dtype
    nodata: tuple[float | None, ...]
    alpha: Literal["soft", "hard", "mask"] | None = None
    geo: GeoTags | None = None
    picture: dict[str, Any] = field(default_factory=dict)

    @property
    def planes(self) -> int:
        """Number of bands, alpha or mask included."""
        return self.bands + (self.alpha is not None)


def picture_tags(info: RasterInfo) -> GeoTags:
    """What a picture says in GDAL's words: its colours."""
    colours = ["gray"] if info.bands == 1 else ["red", "green", "blue"]
    count = info.planes
    return GeoTags(
        band_tags=({},) * count,
        descriptions=(None,) * count,
        units=(None,) * count,
        scales=(1.0,) * count,
        offsets=(0.0,) * count,
        colours=tuple([*colours, "alpha"][:count] if info.alpha else colours),
        order=tuple(range(count)),
    )


class Raster(Protocol):
    """An open image."""

    info: RasterInfo

    def rows(self, top: int, bottom: int) -> np.ndarray:
        """Rows [top, bottom): (planes, bottom - top, W), bands first, then alpha.

        Raises:
            ImageFileError: they cannot be read.
        """
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...
