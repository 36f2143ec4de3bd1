"""Decode aerial tiles with all their bands, in the 8 or 16 bits of the file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from monai.transforms import Transform
from torch import Tensor

from monai_ext.raster.images import ImageFileError
from monai_ext.raster.missing_pixels import nearest_known
from monai_ext.raster.opening import open_raster
from monai_ext.runtime.memory import in_words

__all__ = ["DecodeTiled", "read_tile"]

LARGEST = 2**30  # bytes of a tile in memory; larger images are for `monai_ext upscale`, which reads them by rows


def read_tile(path: str | os.PathLike, *, bands: Sequence[int] | None = None, fill_missing: bool = False) -> Tensor:
    """The bands of a tile, uint8 or uint16 (C, H, W) as in the file; a grey picture has one band.

    Read by `open_raster`: TIFFs go through rasterio where it is installed. Palettes become colours. An alpha band, or a
    mask, is no band: what it hides becomes 0. Values that a GeoTIFF calls nodata stay as they are, unless they
    are to be filled. Signed 16-bit files without negative values count as uint16.

    Args:
        bands: which to return, counted from 1 as GDAL does, in this order; None: all. A grey picture stands for every
            band asked for, since tile servers send grey JPEGs among coloured ones.
        fill_missing: nodata becomes the nearest known value of its band, for networks, which would take it for colour.

    Raises:
        ImageFileError: the file cannot be read, lacks a band, holds other than 8- or 16-bit integers, takes more than a
            GiB, or needs rasterio, which is not installed.
    """
    with closing(open_raster(path)) as raster:
        info = raster.info
        nbytes = info.planes * info.size[0] * info.size[1] * info.dtype.itemsize
        if nbytes > LARGEST:
            raise ImageFileError(
                f"tile {path} takes {in_words(nbytes)} of memory: cut it, {in_words(LARGEST)} at most."
            )
        planes = np.asarray(raster.rows(0, info.size[0]))
    if planes.dtype == np.int16 and planes.min() >= 0:
        planes = planes.astype(np.uint16)
    if planes.dtype not in (np.uint8, np.uint16):
        raise ImageFileError(
            f"tile {path} holds {planes.dtype} values: save it as unsigned 8- or 16-bit integers of a known range."
        )
    pixels = planes[: info.bands]
    if info.alpha is not None:
        opaque = 255 if info.alpha == "mask" else np.iinfo(info.dtype).max
        pixels = (pixels * (planes[-1] / opaque) + 0.5).astype(planes.dtype)
    if fill_missing and any(value is not None for value in info.nodata):
        markers = np.array([np.nan if value is None else value for value in info.nodata])
        pixels = nearest_known(pixels, pixels != markers[:, None, None])
    if bands is not None:
        if max(bands) > info.bands > 1:
            raise ImageFileError(f"tile {path} has {info.bands} bands: band {max(bands)} is asked for.")
        pixels = pixels[[0 if info.bands == 1 else band - 1 for band in bands]]
    return torch.from_numpy(np.array(pixels, order="C"))


class DecodeTiled(Transform):
    """From the path of an item to its pixels: {"id", "image": path} becomes {"id": str, "image": (C, H, W)}.

    Nothing is resized or cropped at random: a `DeviceDataset` of it keeps whole tiles, and patches are cut from batches
    of them. Other keys of the item, such as "place", are dropped here and stay in the data set's list `data`.

    Args:
        bands: see `read_tile`. Give them where grey and coloured tiles are mixed.
        multiple: height and width are cut, at the bottom and on the right, to whole multiples of this, such as the
            scale of super-resolution.
        keep_paths: also return the file's path as "image_path".
        fill_missing: see `read_tile`.

    Raises (when called):
        ImageFileError: as `read_tile`, or the tile is smaller than `multiple`.
    """

    def __init__(
        self,
        bands: Sequence[int] | None = None,
        *,
        multiple: int = 1,
        keep_paths: bool = False,
        fill_missing: bool = False,
    ):
        if bands is not None and (not bands or not all(isinstance(band, int) and band >= 1 for band in bands)):
            raise ValueError(f"bands is {bands!r}: give whole numbers counted from 1, such as [1, 2, 3].")
        if multiple < 1:
            raise ValueError(f"multiple is {multiple}: choose at least 1.")
        self.bands = None if bands is None else tuple(bands)
        self.multiple = multiple
        self.keep_paths = keep_paths
        self.fill_missing = fill_missing

    def __call__(self, data: Mapping) -> dict[str, str | Tensor]:
        path = data["image"]
        pixels = read_tile(path, bands=self.bands, fill_missing=self.fill_missing)
        height, width = (side // self.multiple * self.multiple for side in pixels.shape[1:])
        if not height or not width:
            raise ImageFileError(
                f"tile {path} is {pixels.shape[1]} x {pixels.shape[2]} pixels: at least {self.multiple} are needed."
            )
        item: dict[str, str | Tensor] = {
            "id": str(data.get("id", Path(path).stem)),
            "image": pixels[:, :height, :width].contiguous(),
        }
        return item | ({"image_path": str(path)} if self.keep_paths else {})

    def __repr__(self) -> str:
        filled = ", fill_missing=True" if self.fill_missing else ""
        return (
            f"{type(self).__name__}(bands={self.bands}, multiple={self.multiple}, keep_paths={self.keep_paths}{filled})"
        )
