"""Upscaled images written to files with the bit depth of their sources."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from monai_ext.data.tiles.pixel_scale import PixelScale
from monai_ext.handlers.engine import Engine
from monai_ext.handlers.item_writer import ItemWriter
from monai_ext.raster.info import RasterInfo
from monai_ext.raster.opening import check_output, open_raster, write_raster
from monai_ext.storage.files import atomic_path, inside, scratch_path
from monai_ext.upscaling.pixel_coding import BandNetwork, PixelCoding

__all__ = ["UpscaledWriter"]


class UpscaledWriter(ItemWriter):
    """Writes each item's prediction in the type of its source; for evaluators that decollate.

    `<folder>/<id>.png` for pictures of one band, or of three with 8 bits; `<folder>/<id>.tif` for everything else, with
    the source's place on the ground, nodata, alpha and tags: what is missing there is missing here, and nothing else
    is. What lies beyond the range of the pixels is interpolated, as by `python -m monai_ext upscale`. A grey source
    whose band was read several times is written with as many bands, without all that. Each file appears only when
    complete. Items need "id" and "image_path".

    Args:
        folder: where to write.
        bands: numbers of the bands that were read, from 1; None: all.
        scale: with which they were read, see `DecodeTiled`; None: the range of their type.

    Raises (when called):
        ImageFileError: the file cannot be written, or needs rasterio, which is not installed.
        ValueError: the format cannot hold the picture, an id leads out of the folder, or the prediction has NaN.
    """

    def __init__(self, folder: str | Path, *, bands: Sequence[int] | None = None, scale: PixelScale | None = None):
        super().__init__(folder, what="{} upscaled pictures")
        self.bands, self.scale = bands, scale

    def write(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            prediction = output["pred"].detach().to("cpu", torch.float32)
            info, pixels = self._pixels(Path(item["image_path"]), prediction)
            self._save(str(item["id"]), pixels, info)
            self.written += 1

    def _save(self, name: str, pixels: np.ndarray, info: RasterInfo) -> None:
        scale = pixels.shape[1] // info.size[0]
        plain = info.bands == 1 or (info.bands == 3 and info.dtype == np.uint8)
        deep = info.dtype == np.uint16 and info.alpha is None
        is_picture = info.geo is None and plain and (info.dtype == np.uint8 or deep)
        target = inside(self.folder, f"{name}{'.png' if is_picture else '.tif'}")
        check_output(target, info, scale=scale)
        with atomic_path(target) as temporary, scratch_path(target.with_suffix(".rows")) as rows:
            np.ascontiguousarray(pixels.transpose(1, 0, 2)).tofile(rows)  # (H, planes, W)
            write_raster(temporary, target, rows, info, scale=scale, fingerprint="")

    def _pixels(self, source: Path, prediction: Tensor) -> tuple[RasterInfo, np.ndarray]:
        """What the upscaled file holds beside its pixels, and these, (planes, s*H, s*W)."""
        nodata = None if self.scale is None else self.scale.nodata
        alpha = self.scale is None or not self.scale.no_alpha
        with closing(open_raster(source, alpha=alpha)) as raster:
            info = raster.info
        bands = self.bands if self.bands is not None and info.bands > 1 else None
        with closing(open_raster(source, bands=bands, nodata=nodata, alpha=alpha)) as raster:
            info = raster.info
            planes = np.asarray(raster.rows(0, info.size[0]))
        if self.scale is not None and self.scale.dtype == info.dtype.name:
            low, high = self.scale.low, self.scale.high
        else:
            low, high = 0.0, float(np.iinfo(info.dtype).max) if info.dtype.kind in "iu" else 1.0
        if info.bands != len(prediction):
            count = len(prediction)
            info = RasterInfo(source, info.size, count, info.dtype, nodata=(None,) * count)
            coding = PixelCoding(info.dtype, count, low, high, info.nodata, None, validity=0)
            return info, coding.encode(prediction[None])[0].numpy()
        marked = info.dtype.kind == "f" or any(value is not None for value in info.nodata)
        validity = info.bands if marked else int(info.alpha is not None)
        coding = PixelCoding(info.dtype, info.bands, low, high, info.nodata, info.alpha, validity)
        scale = prediction.shape[-1] // info.size[1]
        as_network = BandNetwork(lambda _: prediction[None], coding, channels=info.bands, scale=scale)
        return info, coding.encode(as_network(coding.decode(planes)))[0].numpy()
