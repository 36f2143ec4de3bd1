"""Enlarged pictures written to files, in the bits of their sources."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine

from monai_ext.data.raster import check_output, open_raster, write_raster
from monai_ext.data.raster_info import RasterInfo
from monai_ext.files import atomic_path, inside
from monai_ext.handlers.item_writer import ItemWriter

__all__ = ["EnlargedWriter"]


class EnlargedWriter(ItemWriter):
    """Writes each item's prediction in the 8 or 16 bits of its source; for evaluators that decollate.

    `<folder>/<id>.png` for pictures of one band, or of three with 8 bits; `<folder>/<id>.tif` for everything else, with
    the source's place on the ground, nodata and tags where it was a GeoTIFF without alpha. Alpha itself is not kept
    (`python -m monai_ext upscale` keeps it). Each file appears only when complete. Items need "id", "image_path" and
    "levels" (255 or 65535); NaN becomes 0.

    Args:
        folder: where to write.
        bands: numbers of the bands that were read, from 1; None: all.

    Raises (when called):
        ImageFileError: the file cannot be written, or needs rasterio, which is not installed.
        ValueError: the format cannot hold the picture, or an id leads out of the folder.
    """

    def __init__(self, folder: str | Path, *, bands: Sequence[int] | None = None):
        super().__init__(folder, what="{} enlarged pictures")
        self.bands = bands

    def write(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            levels = int(item["levels"])
            prediction = output["pred"].detach().to("cpu", torch.float64).nan_to_num(0.0).clamp(0, 1)
            pixels = (prediction * levels).round().numpy().astype(np.uint8 if levels == 255 else np.uint16)
            self._save(str(item["id"]), pixels, Path(item["image_path"]))
            self.written += 1

    def _save(self, name: str, pixels: np.ndarray, source: Path) -> None:
        planes, height, _ = pixels.shape
        info = self._info(source, pixels)
        scale = height // info.size[0]
        is_picture = info.geo is None and (planes == 1 or (planes == 3 and pixels.dtype == np.uint8))
        target = inside(self.folder, f"{name}{'.png' if is_picture else '.tif'}")
        check_output(target, info, scale=scale)
        with atomic_path(target) as temporary, tempfile.NamedTemporaryFile(dir=target.parent, prefix=".rows-") as rows:
            np.ascontiguousarray(pixels.transpose(1, 0, 2)).tofile(rows)  # (H, planes, W)
            rows.flush()
            write_raster(temporary, target, Path(rows.name), info, scale=scale, fingerprint="")

    def _info(self, source: Path, pixels: np.ndarray) -> RasterInfo:
        """What the source says of the bands that were read; their number alone where they are not what it holds."""
        with closing(open_raster(source)) as raster:
            info = raster.info
        if self.bands is not None and info.bands > 1:
            with closing(open_raster(source, bands=self.bands)) as raster:
                info = raster.info
        if info.bands == len(pixels) and info.alpha is None:
            return replace(info, dtype=pixels.dtype)
        return RasterInfo(source, info.size, len(pixels), pixels.dtype, nodata=(None,) * len(pixels))
