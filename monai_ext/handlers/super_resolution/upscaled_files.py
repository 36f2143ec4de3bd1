"""Upscaled images written to files with the bit depth of their sources."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from monai_ext.handlers.engine import Engine
from monai_ext.handlers.item_writer import ItemWriter
from monai_ext.raster.info import RasterInfo
from monai_ext.raster.opening import check_output, open_raster, write_raster
from monai_ext.storage.files import atomic_path, inside
from monai_ext.upscaling.pixel_coding import PixelCoding

__all__ = ["UpscaledWriter"]


class UpscaledWriter(ItemWriter):
    """Writes each item's prediction in the 8 or 16 bits of its source; for evaluators that decollate.

    `<folder>/<id>.png` for pictures of one band, or of three with 8 bits; `<folder>/<id>.tif` for everything else, with
    the source's place on the ground, nodata and tags where it was a GeoTIFF without alpha: what is nodata there is
    nodata here, and nothing else is. Alpha itself is not kept (`python -m monai_ext upscale` keeps it). Each file
    appears only when complete. Items need "id", "image_path" and "levels" (255 or 65535); NaN becomes 0.

    Args:
        folder: where to write.
        bands: numbers of the bands that were read, from 1; None: all.

    Raises (when called):
        ImageFileError: the file cannot be written, or needs rasterio, which is not installed.
        ValueError: the format cannot hold the picture, or an id leads out of the folder.
    """

    def __init__(self, folder: str | Path, *, bands: Sequence[int] | None = None):
        super().__init__(folder, what="{} upscaled pictures")
        self.bands = bands

    def write(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            levels, source = int(item["levels"]), Path(item["image_path"])
            prediction = output["pred"].detach().to("cpu", torch.float64).nan_to_num(0.0).clamp(0, 1)
            dtype = np.dtype(np.uint8 if levels == 255 else np.uint16)
            info, known = self._source(source, len(prediction), dtype)
            pixels = (prediction * levels).round().numpy().astype(dtype)
            if known is not None:
                pixels = _marked(prediction, known, info)
            self._save(str(item["id"]), pixels, info)
            self.written += 1

    def _save(self, name: str, pixels: np.ndarray, info: RasterInfo) -> None:
        planes, height, _ = pixels.shape
        scale = height // info.size[0]
        is_picture = info.geo is None and (planes == 1 or (planes == 3 and pixels.dtype == np.uint8))
        target = inside(self.folder, f"{name}{'.png' if is_picture else '.tif'}")
        check_output(target, info, scale=scale)
        with atomic_path(target) as temporary, tempfile.NamedTemporaryFile(dir=target.parent, prefix=".rows-") as rows:
            np.ascontiguousarray(pixels.transpose(1, 0, 2)).tofile(rows)  # (H, planes, W)
            rows.flush()
            write_raster(temporary, target, Path(rows.name), info, scale=scale, fingerprint="")

    def _source(self, source: Path, planes: int, dtype: np.dtype) -> tuple[RasterInfo, np.ndarray | None]:
        """Metadata of the source's bands that were read, their number alone where they are not those of the file;
        and which of its pixels are known (bands, h, w), None where none can be missing.
        """
        with closing(open_raster(source)) as raster:
            info = raster.info
        bands = self.bands if self.bands is not None and info.bands > 1 else None
        with closing(open_raster(source, bands=bands)) as raster:
            info, known = raster.info, None
            if info.bands != planes or info.alpha is not None:
                return RasterInfo(source, info.size, planes, dtype, nodata=(None,) * planes), None
            if any(value is not None for value in info.nodata):
                markers = np.array([np.nan if value is None else value for value in info.nodata])
                known = np.asarray(raster.rows(0, info.size[0])) != markers[:, None, None]
        return replace(info, dtype=dtype), known


def _marked(prediction: Tensor, known: np.ndarray, info: RasterInfo) -> np.ndarray:
    """The prediction (C, H, W) in pixels of the type of `info`: nodata where the source is not known, nowhere else."""
    levels = float(np.iinfo(info.dtype).max)
    coding = PixelCoding(info.dtype, info.bands, 0.0, levels, info.nodata, None, validity=info.bands)
    repeated = interpolate(torch.from_numpy(known)[None].to(prediction.dtype), size=prediction.shape[1:])
    return coding.encode(torch.cat([prediction[None], repeated], dim=1))[0].numpy()
