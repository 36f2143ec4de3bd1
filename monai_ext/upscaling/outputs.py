"""The files that an upscaled raster is written to: which planes each holds, under which band names, in which type."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from monai_ext.raster.info import BandTags, RasterInfo, picture_tags
from monai_ext.raster.opening import write_raster
from monai_ext.storage.files import atomic_path, scratch_path
from monai_ext.upscaling.layers import DEVIATIONS, Layers

__all__ = ["Cells", "OutputFile", "band_labels", "layered_info", "output_files"]

Cells = tuple[tuple[Path, ...], ...]
LAYER_TAG, LAYERS_TAG = "LAYER", "MONAI_EXT_LAYERS"
COLOURS = ("red", "green", "blue")


@dataclass(frozen=True)
class OutputFile:
    """One of the files that an upscaled raster is written to.

    Attributes:
        path: its final name.
        info: what it holds: bands, type and tags, at the size of the low resolution.
        planes: which planes of a strip, in the order of its bands; None: all.
        cells: names of the files that it is cut into, all of one size, rows from the top; none: it is one file.
    """

    path: Path
    info: RasterInfo
    planes: tuple[int, ...] | None = None
    cells: Cells = ()

    @property
    def paths(self) -> list[Path]:
        """The names of its files."""
        return [path for row in self.cells for path in row] or [self.path]

    @property
    def file_info(self) -> RasterInfo:
        """What each of its files holds, at the size of the low resolution; of the first one, where there are several.

        Raises:
            ValueError: it cannot be cut into files of one size.
        """
        return self._part(0, 0) if self.cells else self.info

    def write(self, rows: Path, *, scale: int, fingerprint: str, cog: bool) -> None:
        """Write its files from raw rows, see `write_raster`; each appears whole or not at all."""
        if not self.cells:
            with atomic_path(self.path) as temporary:
                write_raster(temporary, self.path, rows, self.info, scale=scale, fingerprint=fingerprint, cog=cog)
            return
        height, width = (scale * side for side in self.info.size)
        pixels = np.memmap(rows, self.info.dtype, "r", shape=(height, self.info.planes, width))
        for row, names in enumerate(self.cells):
            for column, path in enumerate(names):
                part = self._part(row, column)
                down, right = (scale * side for side in part.size)
                with scratch_path(path) as cell, atomic_path(path) as temporary:
                    own = pixels[row * down : (row + 1) * down, :, column * right : (column + 1) * right]
                    np.ascontiguousarray(own).tofile(cell)
                    write_raster(temporary, path, cell, part, scale=scale, fingerprint=fingerprint, cog=cog)

    def _part(self, row: int, column: int) -> RasterInfo:
        height, width = (side / count for side, count in zip(self.info.size, self._counts, strict=True))
        if not (height.is_integer() and width.is_integer()):
            raise ValueError(
                f"{self.info.path} has {self.info.size[1]} x {self.info.size[0]} pixels, which cannot be cut into "
                f"{self._counts[1]} x {self._counts[0]} tiles of one size: upscale it whole (without --deeper) or take "
                f"tiles whose width is a multiple of {self._counts[1]} and whose height is one of {self._counts[0]}."
            )
        return self.info.part(row * height, column * width, (int(height), int(width)))

    @property
    def _counts(self) -> tuple[int, int]:
        return len(self.cells), len(self.cells[0])

    def pixels(self, strip: np.ndarray) -> np.ndarray:
        """This file's part of a strip (planes, rows, s*W): in its own type, rounded where that is whole."""
        chosen = strip if self.planes is None else strip[list(self.planes)]
        if chosen.dtype == self.info.dtype:
            return chosen
        if self.info.dtype.kind in "iu":
            limits = np.iinfo(self.info.dtype)
            chosen = np.rint(chosen).clip(limits.min, limits.max)
        return chosen.astype(self.info.dtype)


def output_files(target: Path, info: RasterInfo, layers: Layers | None) -> list[OutputFile]:
    """The files for `target`: one, or with layers one TIFF or a folder of pictures.

    A TIFF holds all layers, its bands named "mean: red", "sample 1: red", "total: red" and so on. Every other kind of
    picture becomes a folder with a file for each layer, and `uncertainty.tif` for the standard deviations. These are in
    units of the pixels; a file that holds them is of floats, unrounded.

    Args:
        info: of the low resolution.
    """
    if layers is None:
        return [OutputFile(target, info)]
    names = layers.names
    if target.suffix.lower() in (".tif", ".tiff"):
        return [OutputFile(target, _described(info, names, layers))]
    folder, bands = target.with_suffix(""), info.bands
    alpha = (len(names) * bands,) if info.alpha else ()
    files = []
    for number, name in enumerate(names):
        if name not in DEVIATIONS:
            planes = (*range(number * bands, (number + 1) * bands), *alpha)
            files.append(OutputFile(folder / f"{name.replace(' ', '_')}{target.suffix}", info, planes))
    if layers.uncertainty:
        floats = _described(replace(info, alpha=None), layers.deviations, layers)
        first = names.index(layers.deviations[0]) * bands
        files.append(OutputFile(folder / "uncertainty.tif", floats, tuple(range(first, len(names) * bands))))
    return files


def _described(info: RasterInfo, names: Sequence[str], layers: Layers) -> RasterInfo:
    """`layered_info` of the layers `names`, with the settings of all `layers` as a tag."""
    described = layered_info(info, names, dtype=layers.dtype(info.dtype))
    geo = described.geo or picture_tags(described)
    own = geo.tags.get("", {}) | {LAYERS_TAG: json.dumps(asdict(layers))}
    return replace(described, geo=replace(geo, tags=geo.tags | {"": own}))


def layered_info(info: RasterInfo, names: Sequence[str], *, dtype: np.dtype) -> RasterInfo:
    """A raster of type `dtype` with the bands of `info` once for each layer in `names`.

    The first layer's bands keep the places of the file, alpha among them, and their colours; the other layers follow.
    Offsets do not hold for standard deviations.
    """
    geo, bands, alpha = info.geo or picture_tags(info), info.bands, len(names) * info.bands
    labels = band_labels(info)

    def entry(band: BandTags, layer: int) -> BandTags:
        name, is_alpha = names[layer], band.plane >= bands
        return replace(
            band,
            plane=alpha if is_alpha else layer * bands + band.plane,
            description=band.description if is_alpha else _joined(name, labels[band.plane]),
            colour=band.colour if layer == 0 else "undefined",
            tags=band.tags | {LAYER_TAG: name},
            offset=0.0 if name in DEVIATIONS else band.offset,
        )

    entries = [
        entry(band, layer)
        for layer in range(len(names))
        for band in geo.bands
        if band.plane < bands or (layer == 0 and info.alpha is not None)
    ]
    return replace(
        info,
        bands=alpha,
        dtype=np.dtype(dtype),
        nodata=info.nodata * len(names),
        geo=replace(geo, bands=tuple(entries)),
    )


def _joined(layer: str, band: str | None) -> str:
    return layer if band is None else f"{layer}: {band}"


def band_labels(info: RasterInfo) -> tuple[str | None, ...]:
    """A name for each band, without alpha: that in the file, its colour, its number; None for a single one without."""
    geo = info.geo or picture_tags(info)
    labels: dict[int, str | None] = {}
    for band in geo.bands:
        colour = band.colour if band.colour in COLOURS else None
        number = f"band {band.plane + 1}" if info.bands > 1 else None
        labels[band.plane] = band.description or colour or number
    return tuple(labels[plane] for plane in range(info.bands))
