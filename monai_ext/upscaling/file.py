"""One image file enlarged into one or several others: strip by strip, resumable, nothing half-written."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from monai_ext import __version__
from monai_ext.raster.info import Raster
from monai_ext.raster.opening import check_output, has_georeference, open_raster, write_raster, written_by
from monai_ext.raster.partial_rows import PartialRows
from monai_ext.raster.pillow import sidecars
from monai_ext.runtime.memory import in_words
from monai_ext.storage.files import atomic_path
from monai_ext.upscaling.pixel_coding import PixelCoding
from monai_ext.upscaling.upscaler import OutputFile, Upscaler

__all__ = ["Choices", "upscale_file"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choices:
    """What is asked of one file, see the command's options.

    Attributes:
        limits: pixel values of black and white, "data" or None, see `Upscaler.coding`.
        bands: numbers of the bands to take, from 1; None: all.
        cog: write Cloud-Optimised GeoTIFFs.
        resume: leave finished images as they are, and go on with strips of unfinished ones.
        identity: names the network in fingerprints.
    """

    limits: tuple[float, float] | Literal["data"] | None = None
    bands: tuple[int, ...] | None = None
    cog: bool = False
    resume: bool = False
    identity: str = ""


def upscale_file(
    source: str | Path,
    target: str | Path,
    *,
    upscaler: Upscaler,
    choices: Choices | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Enlarge the image `source` into `target`; False if it was there already (`choices.resume`).

    What lies at `target` is replaced only by a finished image. Finished strips wait in `.NAME.partial` beside it: a run
    that is broken off, by a kill or a full disk, leaves them for the next one. Where the upscaler gives several files
    (see `Upscaler.outputs`), this holds for each of them.

    Args:
        progress: called with (strips done, strips in all).

    Raises:
        ImageFileError: the source cannot be read, or the target not be written.
        ValueError: network, image and choices do not go together; target and source are the same file.
        OSError: no room on the disk.
    """
    source, target, choices = Path(source), Path(target), choices or Choices()
    if target.exists() and source.exists() and target.samefile(source):
        raise ValueError(f"output {target} is its own input: choose another name or folder.")
    raster = open_raster(source, bands=choices.bands)
    try:
        info, outputs = raster.info, upscaler.outputs(target, raster.info)
        for output in outputs:
            if output.path.exists() and output.path.samefile(source):
                raise ValueError(f"output {output.path} is its own input: choose another name or folder.")
            check_output(output.path, output.info, scale=upscaler.scale, cog=choices.cog)
        fingerprint = _fingerprint(source, upscaler, choices)
        if choices.resume and all(each.path.is_file() and written_by(each.path) == fingerprint for each in outputs):
            for each in outputs:
                PartialRows.forget(each.path)
            return False
        coding = upscaler.coding(raster, choices.limits)
        with ExitStack() as stack:
            partials = [stack.enter_context(_partial(each, upscaler.scale, fingerprint, choices)) for each in outputs]
            pairs = list(zip(outputs, partials, strict=True))
            _collect(raster, coding, pairs=pairs, upscaler=upscaler, progress=progress)
            for output, partial in pairs:
                with atomic_path(output.path) as temporary:
                    about = {"scale": upscaler.scale, "fingerprint": fingerprint, "cog": choices.cog}
                    write_raster(temporary, output.path, partial.path, output.info, **about)
            for partial in partials:
                partial.discard()
    finally:
        raster.close()
    if has_georeference(info) and target.suffix.lower() not in (".tif", ".tiff"):
        _logger.warning(f"{target}: the georeference of {source} is lost, only .tif keeps it.")
    return True


def _partial(output: OutputFile, scale: int, fingerprint: str, choices: Choices) -> PartialRows:
    info = output.info
    shape = {"planes": info.planes, "width": scale * info.size[1], "dtype": info.dtype}
    return PartialRows(output.path, **shape, fingerprint=fingerprint, resume=choices.resume)


def _collect(
    raster: Raster,
    coding: PixelCoding,
    *,
    pairs: Sequence[tuple[OutputFile, PartialRows]],
    upscaler: Upscaler,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Enlarge `raster` and add to each output's rows those that are not there yet."""
    scale, edges = upscaler.scale, upscaler.strip_edges(raster)
    done, count = min(partial.strips for _, partial in pairs), len(edges) - 1
    for _, partial in pairs:  # a kill may have come between two of them
        partial.keep(done, scale * edges[done])
    left = scale * scale * (edges[-1] - edges[done]) * raster.info.size[1]
    _check_room(pairs[0][0].path, sum(left * each.info.planes * each.info.dtype.itemsize for each, _ in pairs))
    if progress is not None:
        progress(done, count)
    try:
        for strip in upscaler.strips(raster, coding, first=done):
            done += 1
            for output, partial in pairs:
                partial.append(output.pixels(strip), last=done == count)
            if progress is not None:
                progress(done, count)
    except ValueError:
        for _, partial in pairs:
            partial.discard()  # going on would fail again
        raise


def _fingerprint(source: Path, upscaler: Upscaler, choices: Choices) -> str:
    """Names the work: the same for the same file, network and choices."""
    files = [(path, path.stat()) for path in (source, *sidecars(source))]
    work = {
        "version": __version__,
        "source": [part for path, status in files for part in (path.name, status.st_size, status.st_mtime_ns)],
        "network": choices.identity,
        **upscaler.settings,
        "choices": [choices.limits, choices.bands, choices.cog],
    }
    return hashlib.sha256(json.dumps(work).encode()).hexdigest()[:32]


def _check_room(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise OSError(
            f"{target} needs {in_words(needed)} for its rows before compression, but {target.parent} has only "
            f"{in_words(free)} left: make room or choose another folder."
        )
