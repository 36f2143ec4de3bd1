"""Upscaled map tiles joined to one GeoTIFF in Web Mercator."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from contextlib import closing
from itertools import product
from pathlib import Path

import mercantile
import numpy as np

from monai_ext.data.tiles.grid import TileAddress
from monai_ext.raster.gdal import require
from monai_ext.raster.images import ImageFileError
from monai_ext.raster.info import BandTags, GeoTags, RasterInfo, opaque, picture_tags
from monai_ext.raster.opening import open_raster, write_raster
from monai_ext.raster.partial_rows import PartialRows
from monai_ext.raster.value_range import known_values
from monai_ext.runtime.memory import in_words
from monai_ext.storage.files import atomic_path

__all__ = ["check_mosaic", "write_mosaic"]

MERCATOR = 3857
STRIP_BYTES = 2**28


def write_mosaic(target: Path, tiles: Mapping[TileAddress, Path], *, cog: bool = False) -> None:
    """Join tiles of one zoom, whatever their own georeference; where none is, and what alpha hides, is masked.

    At most `STRIP_BYTES` of rows are in memory; of a mosaic so wide that these are less than a tile, each tile is
    decoded several times.

    Args:
        target: a .tif.
        tiles: their places, rows from the north; all of one size, type and number of bands.
        cog: as a Cloud-Optimised GeoTIFF.

    Raises:
        ValueError: see `check_mosaic`.
        ImageFileError: a tile cannot be read, or is unlike the first one; see `check_mosaic`.
        OSError: no room on the disk.
    """
    zoom = check_mosaic(target, tiles)
    rasterio = require(target)
    places = {(address.y, address.x): path for address, path in tiles.items()}
    (top, bottom), (left, right) = ((min(axis), max(axis) + 1) for axis in zip(*places, strict=True))
    with closing(open_raster(next(iter(places.values())))) as raster:
        like = raster.info
    (height, width), columns = like.size, right - left
    first = mercantile.xy_bounds(mercantile.Tile(left, top, zoom))
    step = (first.right - first.left) / width, (first.top - first.bottom) / height
    info = RasterInfo(
        path=target,
        size=((bottom - top) * height, columns * width),
        bands=like.bands,
        dtype=like.dtype,
        nodata=like.nodata,
        alpha="mask",
        geo=GeoTags(
            crs=rasterio.crs.CRS.from_epsg(MERCATOR).to_wkt(),
            transform=(step[0], 0.0, first.left, 0.0, -step[1], first.top),
            bands=_bands(like),
        ),
    )
    needed = info.size[0] * info.size[1] * info.planes * info.dtype.itemsize
    target.parent.mkdir(parents=True, exist_ok=True)
    if needed > (free := shutil.disk_usage(target.parent).free):
        raise OSError(
            f"{target} needs {in_words(needed)} for its rows before compression, and {in_words(free)} are left: make "
            "room, or join fewer tiles."
        )
    with PartialRows(target, planes=info.planes, width=info.size[1], dtype=info.dtype, fingerprint="0") as rows:
        try:
            count = max(1, STRIP_BYTES // (needed // info.size[0]))
            for row, start in product(range(top, bottom), range(0, height, count)):
                end = min(start + count, height)
                strip = np.zeros((info.planes, end - start, info.size[1]), info.dtype)
                strip[:-1] = np.array([0 if value is None else value for value in info.nodata])[:, None, None]
                for column in range(columns):
                    if (path := places.get((row, left + column))) is not None:
                        strip[..., column * width : (column + 1) * width] = _masked(path, like, info, start, end)
                rows.append(strip, last=True)
            with atomic_path(target) as temporary:
                write_raster(temporary, target, rows.path, info, scale=1, fingerprint="0", cog=cog)
        finally:
            rows.discard()


def check_mosaic(target: Path, addresses: Iterable[TileAddress]) -> int:
    """The zoom of the tiles.

    Raises:
        ValueError: `target` is no .tif, or the tiles are of several zooms.
        ImageFileError: rasterio is not installed.
    """
    zooms = sorted({address.zoom or 0 for address in addresses})
    if target.suffix.lower() not in (".tif", ".tiff"):
        raise ValueError(f"mosaic {target}: name a .tif.")
    if len(zooms) != 1:
        raise ValueError(
            f"mosaic {target}: the tiles are of the zooms {', '.join(map(str, zooms))}: give those of one."
        )
    require(target)
    return zooms[0]


def _bands(like: RasterInfo) -> tuple[BandTags, ...]:
    own = (like.geo or picture_tags(like)).bands
    return tuple(band for band in own if band.plane < like.bands)


def _masked(path: Path, like: RasterInfo, info: RasterInfo, top: int, bottom: int) -> np.ndarray:
    """The bands of rows of a tile and their mask."""
    with closing(open_raster(path)) as raster:
        own, planes = raster.info, raster.rows(top, bottom)
    if (own.size, own.dtype) != (like.size, like.dtype) or own.bands not in (1, like.bands):
        raise ImageFileError(
            f"tile {path} has {own.bands} bands of {own.dtype} and {own.size[1]} x {own.size[0]} pixels, {like.path} "
            f"has {like.bands} of {like.dtype} and {like.size[1]} x {like.size[0]}: they cannot be joined."
        )
    known = known_values(planes, own.nodata).any(axis=0)
    colours = np.broadcast_to(planes[: own.bands], (like.bands, *planes.shape[1:]))
    return np.concatenate([colours, (known * opaque("mask", info.dtype)).astype(info.dtype)[None]])
