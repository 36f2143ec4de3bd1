"""Rasters enlarged by a network that knows several answers: mean, samples, bounds and uncertainty as named bands."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monai_ext.inferers.tiled import RowReader
from monai_ext.networks.uncertain_sr import UncertainSuperResolution
from monai_ext.raster.info import RasterInfo, picture_tags
from monai_ext.upscaling.layers import SPREADS, LayerNetwork, Layers
from monai_ext.upscaling.pixel_coding import BandNetwork, PixelCoding
from monai_ext.upscaling.upscaler import OutputFile, Upscaler

__all__ = ["LayeredUpscaler", "band_labels", "layered_info"]

LAYER_TAG, LAYERS_TAG = "LAYER", "MONAI_EXT_LAYERS"
COLOURS = ("red", "green", "blue")


class LayeredUpscaler(Upscaler):
    """An `Upscaler` whose strips hold all `Layers` of an image, all bands of a layer together.

    TIFFs get all layers in one file, its bands named "mean: red", "sample 1: red", "total: red" and so on; every other
    kind of picture becomes a folder with a file for each layer, and `uncertainty.tif` for the standard deviations.
    Standard deviations are in units of the pixels; a file that holds them is of floats, unrounded.

    It computes in float32: steps of bfloat16 would count as uncertainty.

    Args:
        network: see `UncertainSuperResolution`; no other upscaler may use it at the same time.
        layers: what is asked of it.
        kwargs: as for `Upscaler`, without `precision`.

    Raises:
        ValueError: the network has one answer only, or no layer is asked for; or as `Upscaler`.
    """

    def __init__(self, network: UncertainSuperResolution, layers: Layers, **kwargs: Any):
        if not isinstance(network, UncertainSuperResolution):
            raise ValueError(
                f"{type(network).__name__} knows one answer only: samples, bounds and uncertainty need a network such "
                "as BayesianSRResNet."
            )
        if len(layers.names) < 2:
            raise ValueError("no layer is asked for beside the mean: ask for samples, bounds or uncertainty.")
        super().__init__(network, precision="fp32", **kwargs)
        self.layers = layers

    @property
    def settings(self) -> dict[str, object]:
        layers = asdict(self.layers)
        return super().settings | {"layers": layers}

    def outputs(self, target: Path, info: RasterInfo) -> list[OutputFile]:
        names = self.layers.names
        if target.suffix.lower() in (".tif", ".tiff"):
            return [OutputFile(target, self._described(info, names))]
        folder, bands = target.with_suffix(""), info.bands
        alpha = (len(names) * bands,) if info.alpha else ()
        files = []
        for number, name in enumerate(names):
            if name not in SPREADS:
                planes = (*range(number * bands, (number + 1) * bands), *alpha)
                files.append(OutputFile(folder / f"{name.replace(' ', '_')}{target.suffix}", info, planes))
        if self.layers.uncertainty:
            floats = self._described(replace(info, alpha=None), SPREADS)
            first = names.index(SPREADS[0]) * bands
            files.append(OutputFile(folder / "uncertainty.tif", floats, tuple(range(first, len(names) * bands))))
        return files

    def layers_of(self, low_res: Tensor) -> Tensor:
        """All layers of images (B, C, h, w) in [0, 1]: (B, layers * C, s*h, s*w), see `LayerNetwork`."""
        low_res = low_res.to(self.device)
        positions = self._maps(low_res.shape[-1])[0](0, low_res.shape[-2]).expand(len(low_res), -1, -1, -1)
        return self.inferer(low_res, LayerNetwork(self.network, self.layers), aligned=positions.to(self.device))

    def _described(self, info: RasterInfo, names: Sequence[str]) -> RasterInfo:
        layers = layered_info(info, names, dtype=self._dtype(info.dtype))
        tags = layers.geo.tags
        own = tags.get("", {}) | {LAYERS_TAG: json.dumps(asdict(self.layers))}
        return replace(layers, geo=replace(layers.geo, tags=tags | {"": own}))

    def _dtype(self, dtype: np.dtype) -> np.dtype:
        """Of a strip: standard deviations are not rounded."""
        return np.result_type(dtype, np.float32) if self.layers.uncertainty else dtype

    def _fit(self, coding: PixelCoding) -> BandNetwork:
        network = LayerNetwork(self.network, self.layers)
        return BandNetwork(network, coding, channels=self.channels, scale=self.scale, answers=len(self.layers.names))

    def _finish(self, coding: PixelCoding) -> Callable[[Tensor], Tensor]:
        names, bands = self.layers.names, coding.bands
        # Validity beside alpha serves the filling of windows; it marks nothing in the answer, of whatever type.
        validity = coding.validity if coding.marks_missing else 0
        values = replace(coding, dtype=self._dtype(coding.dtype), validity=validity)
        spreads = replace(values, low=0.0, high=coding.high - coding.low)

        def finish(channels: Tensor) -> Tensor:
            rest = channels[:, len(names) * bands : channels.shape[1] - coding.validity + validity]
            planes = []
            for number, name in enumerate(names):
                layer = torch.cat([channels[:, number * bands : (number + 1) * bands], rest], dim=1)
                planes.append((spreads if name in SPREADS else values).encode(layer))
            alpha = planes[0][:, bands:]
            if coding.opaque != values.opaque:
                alpha = alpha * (coding.opaque / values.opaque)
            return torch.cat([*(layer[:, :bands] for layer in planes), alpha], dim=1)

        return finish

    def _maps(self, width: int) -> Sequence[RowReader]:
        def positions(top: int, bottom: int) -> Tensor:
            rows, columns = torch.arange(top, bottom), torch.arange(width)
            return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]

        return (positions,)


def layered_info(info: RasterInfo, names: Sequence[str], *, dtype: np.dtype) -> RasterInfo:
    """A raster of type `dtype` with the bands of `info` once for each layer in `names`.

    The first layer's bands keep the places of the file, alpha among them, and their colours; the other layers follow.
    Offsets do not hold for standard deviations.
    """
    geo, bands, alpha = info.geo or picture_tags(info), info.bands, len(names) * info.bands
    labels = band_labels(info)
    entries = [
        (name, place, layer * bands + plane if plane < bands else alpha)
        for layer, name in enumerate(names)
        for place, plane in enumerate(geo.order)
        if plane < bands or (layer == 0 and info.alpha is not None)
    ]
    return replace(
        info,
        bands=alpha,
        dtype=np.dtype(dtype),
        nodata=info.nodata * len(names),
        geo=replace(
            geo,
            order=tuple(plane for *_, plane in entries),
            descriptions=tuple(
                geo.descriptions[place] if plane == alpha else _joined(name, labels[plane % bands])
                for name, place, plane in entries
            ),
            colours=tuple(geo.colours[at] if name == names[0] else "undefined" for name, at, _ in entries),
            band_tags=tuple(geo.band_tags[place] | {LAYER_TAG: name} for name, place, _ in entries),
            units=tuple(geo.units[place] for _, place, _ in entries),
            scales=tuple(geo.scales[place] for _, place, _ in entries),
            offsets=tuple(0.0 if name in SPREADS else geo.offsets[place] for name, place, _ in entries),
        ),
    )


def _joined(layer: str, band: str | None) -> str:
    return layer if band is None else f"{layer}: {band}"


def band_labels(info: RasterInfo) -> tuple[str | None, ...]:
    """A name for each band, without alpha: that in the file, its colour, its number; None for a single one without."""
    geo = info.geo or picture_tags(info)
    labels: dict[int, str | None] = {}
    for place, plane in enumerate(geo.order):
        colour = geo.colours[place] if geo.colours[place] in COLOURS else None
        number = f"band {plane + 1}" if info.bands > 1 else None
        labels[plane] = geo.descriptions[place] or colour or number
    return tuple(labels[plane] for plane in range(info.bands))
