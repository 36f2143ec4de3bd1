"""Tiles in files."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from monai_ext.data.tiles.listing import tile_items


def tile(path, values=None):
    """Write a tile; values (H, W[, C])."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8) if values is None else values).save(path)
    return path


def places_of(folder, **options):
    return {item["id"]: item["place"] for item in tile_items(folder, **options)}


def colour_png_16bit(path, values):
    """values (H, W, 3) uint16; Pillow cannot write these."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(tag, data):
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


def geotiff(path, bands, **options):
    """bands (C, H, W); skips where rasterio is missing."""
    rasterio = pytest.importorskip("rasterio", reason="needs rasterio")
    count, height, width = bands.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": bands.dtype}
    where = {"crs": "EPSG:3857", "transform": rasterio.Affine(2, 0, 500, 0, -2, 900)}
    with rasterio.open(path, "w", **profile, **where, **options) as raster:
        raster.write(bands)
    return path


def numbers(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
