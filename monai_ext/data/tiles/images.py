"""Decode aerial tiles with all their bands: in the 8 or 16 bits of the file, or by one range for a whole set."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.transforms import Transform
from torch import Tensor

from monai_ext.data.item_numbers import image_numbers, with_numbers
from monai_ext.data.tiles.collars import collar
from monai_ext.data.tiles.pixel_scale import PixelScale
from monai_ext.raster.images import ImageFileError
from monai_ext.raster.info import RasterInfo, opaque
from monai_ext.raster.missing_pixels import nearest_known
from monai_ext.raster.opening import open_raster
from monai_ext.raster.value_range import known_values
from monai_ext.runtime.memory import in_words

__all__ = ["DecodeTiled", "TilePixels", "read_tile", "tile_pixels"]

DECODED_KEYS = frozenset({"id", "image", "scale", "known"})
LARGEST = 2**30  # bytes of a tile in memory; larger images are for `monai_ext upscale`, which reads them by rows


class TilePixels(NamedTuple):
    """A tile as its file has it.

    Attributes:
        values: (C, H, W), in the type of the file, missing ones filled with the nearest known value of their band.
        known: (H, W), bool: where all bands show ground.
    """

    values: np.ndarray
    known: np.ndarray


def tile_pixels(
    path: str | os.PathLike,
    *,
    bands: Sequence[int] | None = None,
    scale: PixelScale | None = None,
    collars: bool = True,
) -> TilePixels:
    """The bands of a tile and which of its pixels show ground.

    Missing are values that the file or `scale` calls nodata, NaN and infinities, what lies under an alpha or mask of 0,
    and an undeclared collar of black or white, see `collar`.

    Args:
        bands: see `read_tile`.
        scale: of the set.
        collars: look for undeclared ones.

    Raises:
        ImageFileError: as `read_tile`.
    """
    planes, info = _planes(path, scale)
    both = planes[: info.bands], known_values(planes, info.nodata)
    values, known = (_chosen(each, path, info, bands) for each in both)
    if collars:
        known = known & ~collar(values, lossy=Path(path).suffix.lower() in (".jpg", ".jpeg", ".webp"))
    return TilePixels(nearest_known(values, known, fallback=0), np.logical_and.reduce(known))


def read_tile(
    path: str | os.PathLike,
    *,
    bands: Sequence[int] | None = None,
    fill_missing: bool = False,
    scale: PixelScale | None = None,
) -> Tensor:
    """The bands of a tile, uint8 or uint16 (C, H, W) as in the file; a grey picture has one band.

    Read by `open_raster`: TIFFs go through rasterio where it is installed. Palettes become colours. An alpha band, or a
    mask, is no band: what it hides becomes 0. Values that a GeoTIFF calls nodata stay as they are, unless they
    are to be filled. Signed 16-bit files without negative values count as uint16.

    Args:
        bands: which to return, counted from 1 as GDAL does, in this order; None: all. A grey picture stands for every
            band asked for, since tile servers send grey JPEGs among coloured ones.
        fill_missing: nodata, and what alpha hides, become the nearest known value of their band, for networks, which
            would take them for colour.
        scale: of the set, see `PixelScale.coded`: tiles of any real type.

    Raises:
        ImageFileError: the file cannot be read, lacks a band, holds other than 8- or 16-bit integers without a `scale`,
            is of another type than that of the `scale`, takes more than a GiB, or needs rasterio, which is not
            installed.
    """
    if fill_missing:
        values = tile_pixels(path, bands=bands, scale=scale, collars=False).values
    else:
        planes, info = _planes(path, scale)
        values = planes[: info.bands]
        if info.alpha is not None:
            share = planes[-1] / opaque(info.alpha, info.dtype)
            values = (values * share + 0.5 * (info.dtype.kind in "iu")).astype(planes.dtype)
        values = _chosen(values, path, info, bands)
    return torch.from_numpy(_coded(values, path, scale))


def _planes(path: str | os.PathLike, scale: PixelScale | None) -> tuple[np.ndarray, RasterInfo]:
    nodata, alpha = (None, True) if scale is None else (scale.nodata, not scale.no_alpha)
    with closing(open_raster(path, nodata=nodata, alpha=alpha)) as raster:
        info = raster.info
        nbytes = info.planes * info.size[0] * info.size[1] * info.dtype.itemsize
        if nbytes > LARGEST:
            raise ImageFileError(
                f"tile {path} takes {in_words(nbytes)} of memory: cut it, {in_words(LARGEST)} at most."
            )
        return np.asarray(raster.rows(0, info.size[0])), info


def _chosen(values: np.ndarray, path: str | os.PathLike, info: RasterInfo, bands: Sequence[int] | None) -> np.ndarray:
    if bands is None:
        return values
    if max(bands) > info.bands > 1:
        raise ImageFileError(f"tile {path} has {info.bands} bands: band {max(bands)} is wanted.")
    return values[[0 if info.bands == 1 else band - 1 for band in bands]]


def _coded(values: np.ndarray, path: str | os.PathLike, scale: PixelScale | None) -> np.ndarray:
    """uint8 or uint16, contiguous, writable."""
    if scale is not None:
        if values.dtype != scale.dtype:
            raise ImageFileError(
                f"tile {path} holds {values.dtype} values, and the set's range of {scale.low:g} to {scale.high:g} is "
                f"one of {scale.dtype}: keep tiles of one type together."
            )
        return scale.coded(values)
    if values.dtype == np.int16 and values.min() >= 0:
        values = values.astype(np.uint16)
    if values.dtype not in (np.uint8, np.uint16):
        raise ImageFileError(
            f"tile {path} holds {values.dtype} values: save it as unsigned 8- or 16-bit integers of a known range."
        )
    return np.array(values, order="C")


class DecodeTiled(Transform):
    """From the path of an item to its pixels: {"id", "image": path} becomes {"id": str, "image": (C, H, W)}.

    Nothing is resized or cropped at random: a `DeviceDataset` of it keeps whole tiles, and patches are cut from batches
    of them. Other keys of the item, such as "place", stay as they are.

    Args:
        bands: see `read_tile`. Give them where grey and coloured tiles are mixed.
        multiple: height and width are cut, at the bottom and on the right, to whole multiples of this, such as the
            scale of super-resolution; of several numbers, to multiples of each.
        keep_paths: also return the file's path as "image_path".
        fill_missing: see `read_tile`.
        scale: see `read_tile`; None: the "scale" of the item, if it has one. With a scale the item gets its "levels".
        known: also return "known", (1, H, W) of bool: which pixels show ground, see `tile_pixels`; all others are
            filled, undeclared collars too. So are those of items with "known": True.

    Raises (when called):
        ImageFileError: as `read_tile`, or the tile is smaller than `multiple`.
    """

    def __init__(
        self,
        bands: Sequence[int] | None = None,
        *,
        multiple: int | Sequence[int] = 1,
        keep_paths: bool = False,
        fill_missing: bool = False,
        scale: PixelScale | None = None,
        known: bool = False,
    ):
        if bands is not None and (not bands or not all(isinstance(band, int) and band >= 1 for band in bands)):
            raise ValueError(f"bands is {bands!r}: give whole numbers counted from 1, such as [1, 2, 3].")
        multiples = [multiple] if isinstance(multiple, int) else list(multiple)
        if not multiples or min(multiples) < 1:
            raise ValueError(f"multiple is {multiple}: choose at least 1.")
        self.bands = None if bands is None else tuple(bands)
        self.multiple = math.lcm(*multiples)
        self.keep_paths = keep_paths
        self.fill_missing, self.scale, self.known = fill_missing, scale, known

    def __call__(self, data: Mapping) -> dict[str, Any]:
        item = self._decoded(data)[0] | {key: value for key, value in data.items() if key not in DECODED_KEYS}
        return item | ({"image_path": str(data["image"])} if self.keep_paths else {})

    def with_look(self, data: Mapping) -> dict[str, Any]:
        """The decoded tile with its numbers, see `monai_ext.data.item_numbers`, without keys that it does not know."""
        item, size = self._decoded(data)
        return item | with_numbers(image_numbers(item["image"].numpy(), size), [])

    def _decoded(self, data: Mapping) -> tuple[dict[str, Any], tuple[int, int]]:
        """The item, and the (H, W) of the file."""
        path, maps = data["image"], {}
        scale = data.get("scale") if self.scale is None else self.scale
        if self.known or data.get("known"):
            values, known = tile_pixels(path, bands=self.bands, scale=scale)
            pixels = torch.from_numpy(_coded(values, path, scale))
            maps["known"] = torch.from_numpy(known)[None]
        else:
            pixels = read_tile(path, bands=self.bands, fill_missing=self.fill_missing, scale=scale)
        height, width = (side // self.multiple * self.multiple for side in pixels.shape[1:])
        if not height or not width:
            raise ImageFileError(
                f"tile {path} is {pixels.shape[1]} x {pixels.shape[2]} pixels: at least {self.multiple} are needed."
            )
        item: dict[str, Any] = {
            "id": str(data.get("id", Path(path).stem)),
            "image": pixels[:, :height, :width].contiguous(),
        }
        if scale is not None and not scale.is_plain:
            item["levels"] = scale.levels
        item |= {key: each[:, :height, :width].contiguous() for key, each in maps.items()}
        return item, (pixels.shape[1], pixels.shape[2])

    def __repr__(self) -> str:
        filled = ", fill_missing=True" if self.fill_missing else ""
        filled += ", known=True" if self.known else ""
        filled += f", scale={self.scale}" if self.scale is not None else ""
        return (
            f"{type(self).__name__}(bands={self.bands}, multiple={self.multiple}, keep_paths={self.keep_paths}{filled})"
        )
