"""One image file upscaled into one or several others: strip by strip, resumable, nothing half-written."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from msgspec.structs import asdict

from monai_ext import __version__
from monai_ext.data.tiles.neighbours import TileGrid
from monai_ext.data.tiles.pixel_scale import PixelScale
from monai_ext.raster.info import Raster, RasterInfo
from monai_ext.raster.opening import check_output, has_georeference, open_raster, written_by
from monai_ext.raster.partial_rows import PartialRows
from monai_ext.raster.pillow import sidecars
from monai_ext.raster.presets import Preset
from monai_ext.raster.remote import Address, Source, content_version, source_of
from monai_ext.raster.window import WindowRaster, window_of_box
from monai_ext.runtime.memory import in_words
from monai_ext.upscaling.outputs import Cells, OutputFile
from monai_ext.upscaling.plan import Plan
from monai_ext.upscaling.upscaler import Upscaler

__all__ = ["Choices", "upscale_file"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choices:
    """How one file is upscaled, see the command's options.

    Attributes:
        limits: pixel values of black and white, "data" or None, see `PixelCoding.of`.
        scale: that of the network's training: its range and its nodata hold for images of its type, where no others
            are chosen.
        nodata: value that marks missing pixels, whatever a file declares; None: what it declares, or what is found.
        no_alpha: a band that is tagged as alpha is a band like others, such as near infrared.
        bands: numbers of the bands to take, from 1; None: all.
        cog: write Cloud-Optimised GeoTIFFs.
        resume: leave finished images as they are, and go on with strips of unfinished ones.
        identity: names the network in fingerprints.
        grid: tiles whose neighbours are their context.
        preset: product whose nodata and bands hold, where `nodata` and `bands` choose no others; its range is one of
            `limits`.
        window: part of the image: column, row, width, height in pixels; what lies around it is context.
        bbox: such a part, as west, south, east, north in degrees.
        cells: the files that a target is cut into, see `OutputFile`; None: it is written as one. Only without layers.
    """

    limits: tuple[float, float] | Literal["data"] | None = None
    scale: PixelScale | None = None
    nodata: float | None = None
    no_alpha: bool = False
    bands: tuple[int, ...] | None = None
    cog: bool = False
    resume: bool = False
    identity: str = ""
    grid: TileGrid | None = None
    preset: Preset | None = None
    window: tuple[int, int, int, int] | None = None
    bbox: tuple[float, float, float, float] | None = None
    cells: Callable[[Path], Cells] | None = None

    def open(self, source: Source, *, context: int = 0) -> Raster:
        """The image, to be read as chosen.

        Args:
            context: width of the margins of a tile's neighbours, or around a window.

        Raises:
            ImageFileError: it cannot be read.
            ValueError: it has no such window.
        """
        no_alpha = self.no_alpha or (self.scale is not None and self.scale.no_alpha)
        bands, nodata = self.bands, self.nodata
        if self.preset is not None:
            nodata = self.preset.nodata if nodata is None else nodata
            if bands is None:
                with closing(open_raster(source, alpha=not no_alpha)) as whole:
                    bands = self.preset.numbers(whole.info)
        raster = open_raster(source, bands=bands, nodata=nodata, alpha=not no_alpha)
        scale = self._scale(raster.info)
        if scale is not None and scale.nodata is not None and nodata is None:
            raster.info = replace(raster.info, nodata=(scale.nodata,) * raster.info.bands)
        window = self.window if self.bbox is None else window_of_box(raster.info, self.bbox)
        if window is not None:
            return WindowRaster(raster, window, margin=context)
        if context and self.grid is not None and isinstance(source, Path) and source in self.grid:
            return self.grid.surrounded(source, raster, margin=context, opened=self.open)
        return raster

    def limits_of(self, info: RasterInfo) -> tuple[float, float] | Literal["data"] | None:
        """Pixel values of black and white of an image, None where they are to be found."""
        scale = self._scale(info)
        return (scale.low, scale.high) if self.limits is None and scale is not None else self.limits

    def outputs(self, upscaler: Upscaler, target: Path, info: RasterInfo) -> list[OutputFile]:
        """The files that an upscaled image is written to."""
        files = upscaler.outputs(target, info)
        if self.cells is None:
            return files
        cells = self.cells(target)
        return [replace(file, path=cells[0][0], cells=cells) for file in files]

    def _scale(self, info: RasterInfo) -> PixelScale | None:
        common = self.grid.scale if self.grid is not None and info.path in self.grid else None
        return next((each for each in (self.scale, common) if each is not None and each.dtype == info.dtype.name), None)


def upscale_file(
    source: str | Path | Address,
    target: str | Path,
    *,
    upscaler: Upscaler,
    choices: Choices | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Upscale the image `source` into `target`; False if it was there already (`choices.resume`).

    What lies at `target` is replaced only by a finished image. Finished strips wait in `.NAME.partial` beside it: a run
    that is broken off, by a kill or a full disk, leaves them for the next one. Where the upscaler has layers, this
    holds for each of its files, see `output_files`.

    Args:
        progress: called with (strips done, strips in all).

    Raises:
        ImageFileError: the source cannot be read, or the target not be written.
        ValueError: network, image and choices do not go together; target and source are the same file.
        OSError: no room on the disk.
    """
    source, target, choices = source_of(source), Path(target), choices or Choices()
    scale, report = upscaler.scale, progress or (lambda done, count: None)
    _check_apart(source, target)
    with closing(choices.open(source, context=upscaler.context)) as raster, ExitStack() as stack:
        outputs = choices.outputs(upscaler, target, raster.info)
        paths = [path for output in outputs for path in output.paths]
        for path in paths:
            _check_apart(source, path)
        for output in outputs:
            check_output(output.path, output.file_info, scale=scale, cog=choices.cog)
        fingerprint = _fingerprint(source, paths, upscaler, choices)
        if choices.resume and all(path.is_file() and written_by(path) == fingerprint for path in paths):
            for each in outputs:
                PartialRows.forget(each.path)
            return False
        if choices.preset is not None:
            choices.preset.warn_of_offset(raster)
        plan = upscaler.plan(raster, choices.limits_of(raster.info))
        info = raster.info  # with nodata that was found
        outputs = choices.outputs(upscaler, target, info)
        files = [
            (output, stack.enter_context(_partial_rows(output, scale, fingerprint, resume=choices.resume)))
            for output in outputs
        ]
        done, count = _resume_together(files, plan, scale), len(plan)
        report(done, count)
        try:
            for strip in plan.strips(first=done):
                done += 1
                for output, rows in files:
                    rows.append(output.pixels(strip), last=done == count)
                report(done, count)
        except ValueError:
            for _, rows in files:
                rows.discard()  # going on would fail again
            raise
        for output, rows in files:
            output.write(rows.path, scale=scale, fingerprint=fingerprint, cog=choices.cog)
        for _, rows in files:
            rows.discard()
    if has_georeference(info) and target.suffix.lower() not in (".tif", ".tiff"):
        _logger.warning(f"{target}: the georeference of {source} is lost, only .tif keeps it.")
    return True


def _check_apart(source: Source, output: Path) -> None:
    if isinstance(source, Path) and output.exists() and source.exists() and output.samefile(source):
        raise ValueError(f"output {output} is its own input: choose another name or folder.")


def _partial_rows(output: OutputFile, scale: int, fingerprint: str, *, resume: bool) -> PartialRows:
    info = output.info
    return PartialRows(
        output.path,
        planes=info.planes,
        width=scale * info.size[1],
        dtype=info.dtype,
        fingerprint=fingerprint,
        resume=resume,
    )


def _resume_together(files: Sequence[tuple[OutputFile, PartialRows]], plan: Plan, scale: int) -> int:
    """Number of strips that all files have; a kill may have come between two of them.

    Raises:
        OSError: there is no room for the other strips.
    """
    done = min(rows.strips for _, rows in files)
    for _, rows in files:
        rows.keep(done, scale * plan.edges[done])
    pixels = scale * scale * (plan.edges[-1] - plan.edges[done]) * plan.raster.info.size[1]
    needed = sum(pixels * output.info.planes * output.info.dtype.itemsize for output, _ in files)
    target = files[0][0].path
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise OSError(
            f"{target} needs {in_words(needed)} for its rows before compression, but {target.parent} has only "
            f"{in_words(free)} left: make room or choose another folder."
        )
    return done


def _fingerprint(source: Source, outputs: Sequence[Path], upscaler: Upscaler, choices: Choices) -> str:
    """A hash of the work: the same for the same file, neighbours, network and choices."""
    grid: TileGrid | None = None
    marks: list[object] = []
    if isinstance(source, Address):
        marks = [str(source), *content_version(source)]
    else:
        grid = choices.grid if choices.grid is not None and source in choices.grid else None
        around = [] if grid is None else [path for path in grid.around(source).values() if path.is_file()]
        for path in (source, *sidecars(source), *around):
            status = path.stat()
            marks += [path.name, status.st_size, status.st_mtime_ns]
    work: dict[str, object] = {
        "version": __version__,
        "source": marks,
        "network": choices.identity,
        **upscaler.settings,
        "choices": [choices.limits, choices.bands, choices.cog, choices.nodata, choices.no_alpha],
        "scale": None if choices.scale is None else asdict(choices.scale),
    }
    if choices.cells is not None:
        work["cells"] = [path.name for path in outputs]
    if choices.preset is not None:
        work["preset"] = choices.preset.name
    if choices.window is not None or choices.bbox is not None:
        work["window"] = choices.bbox or choices.window
    if grid is not None and isinstance(source, Path):
        work["grid"] = [grid.address(source), None if grid.scale is None else asdict(grid.scale)]
    return hashlib.sha256(json.dumps(work).encode()).hexdigest()[:32]
