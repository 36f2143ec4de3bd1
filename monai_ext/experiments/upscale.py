"""Enlarge pictures and GeoTIFFs of any size with the super-resolution network of a bundle.

Windows with discarded or faded context leave no seams, memory does not grow with the height of an image, and place,
missing values, band count, type, colours and tags are kept. A run that was killed goes on with --resume.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Literal

import torch
from torch import nn
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from monai_ext import __version__
from monai_ext.data.partial_rows import PartialRows
from monai_ext.data.raster import (
    GDAL_SUFFIXES,
    PILLOW_SUFFIXES,
    check_output,
    open_raster,
    output_suffix,
    write_raster,
    written_by,
)
from monai_ext.experiments.bundle_network import load_bundle_network
from monai_ext.files import atomic_path
from monai_ext.inferers.upscaler import Upscaler

__all__ = ["Choices", "UpscaleError", "add_arguments", "plan_outputs", "run", "upscale", "upscale_file"]

_logger = logging.getLogger(__name__)

SHOWN_FAILURES = 10


class UpscaleError(ValueError):
    """Some of several images could not be enlarged; the others are done."""


class _StoppedError(Exception):
    """An image was left unfinished because the run was broken off."""


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
    that is broken off, by a kill or a full disk, leaves them for the next one.

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
        info, scale = raster.info, upscaler.scale
        check_output(target, info, scale=scale, cog=choices.cog)
        fingerprint = _fingerprint(source, upscaler, choices)
        if choices.resume and target.is_file() and written_by(target) == fingerprint:
            return False
        coding = upscaler.coding(raster, choices.limits)
        count = upscaler.strip_count(raster)
        shape = {"planes": info.planes, "width": scale * info.size[1], "dtype": info.dtype}
        with PartialRows(target, **shape, fingerprint=fingerprint, resume=choices.resume) as partial:
            left = scale * info.size[0] - partial.rows
            _check_room(target, left * shape["planes"] * shape["width"] * info.dtype.itemsize)
            if progress is not None:
                progress(partial.strips, count)
            try:
                for strip in upscaler.strips(raster, coding, first=partial.strips):
                    partial.append(strip, last=partial.strips == count - 1)
                    if progress is not None:
                        progress(partial.strips, count)
            except ValueError:
                partial.discard()  # going on would fail again
                raise
            with atomic_path(target) as temporary:
                write_raster(
                    temporary, target, partial.path, info, scale=scale, fingerprint=fingerprint, cog=choices.cog
                )
            partial.discard()
    finally:
        raster.close()
    if info.geo is not None and info.geo.crs and target.suffix.lower() not in (".tif", ".tiff"):
        _logger.warning(f"{target}: the georeference of {source} is lost, only .tif keeps it.")
    return True


def _fingerprint(source: Path, upscaler: Upscaler, choices: Choices) -> str:
    """Names the work: the same for the same file, network and choices."""
    status, inferer = source.stat(), upscaler.inferer
    work = {
        "version": __version__,
        "source": [source.name, status.st_size, status.st_mtime_ns],
        "network": choices.identity,
        "windows": [inferer.tile, inferer.overlap, inferer.mode],
        "precision": upscaler.precision,
        "choices": [choices.limits, choices.bands, choices.cog],
    }
    return hashlib.sha256(json.dumps(work).encode()).hexdigest()[:32]


def _check_room(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise OSError(
            f"{target} needs {needed / 1e9:.1f} GB for its rows before compression, but {target.parent} has only "
            f"{free / 1e9:.1f} GB left: make room or choose another folder."
        )


def plan_outputs(inputs: Sequence[str | Path], output: str | Path) -> list[tuple[Path, Path]]:
    """(image, where to write it enlarged) for files and folders; names and subfolders are kept.

    `output` is the name of the one output if there is one input file and `output` names a known kind of file, else a
    folder.

    Raises:
        FileNotFoundError: an input does not exist, or the folders hold no images.
        ValueError: two images would be written to one file, or an image over itself or another input.
    """
    inputs, output = [Path(each) for each in inputs], Path(output)
    for each in inputs:
        if not each.exists():
            raise FileNotFoundError(f"input {each} does not exist.")
    known = (*GDAL_SUFFIXES, *PILLOW_SUFFIXES)
    if len(inputs) == 1 and inputs[0].is_file() and output.suffix.lower() in known and not output.is_dir():
        pairs = [(inputs[0], output)]
    else:
        pairs = []
        for each in inputs:
            images = _images(each, known) if each.is_dir() else [(each, Path(each.name))]
            pairs += [(path, output / name.with_suffix(output_suffix(path))) for path, name in images]
    if not pairs:
        raise FileNotFoundError(f"no images in {', '.join(map(str, inputs))}: looked for {', '.join(known)}.")
    sources = {source.resolve() for source, _ in pairs}
    taken: dict[Path, Path] = {}
    for source, target in pairs:
        if target.resolve() in sources:
            raise ValueError(f"output {target} is one of the inputs: choose another name or folder.")
        other = taken.setdefault(target.resolve(), source)
        if other is not source:
            raise ValueError(f"{other} and {source} would both be written to {target}: enlarge them one by one.")
    return pairs


def _images(folder: Path, known: Iterable[str]) -> list[tuple[Path, Path]]:
    names = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.suffix.lower() in known)
    return [(folder / name, name) for name in names if not any(part.startswith(".") for part in name.parts)]


def upscale(
    pairs: Sequence[tuple[Path, Path]],
    *,
    upscalers: Sequence[Upscaler],
    choices: Choices | None = None,
) -> list[Path]:
    """Enlarge each image of `pairs` (source, target); returns the targets that were written.

    Args:
        upscalers: one for each file that is worked on at a time, e.g. one per device.

    Raises:
        UpscaleError: some of several images failed; all others are done. A single one raises its own error.
    """
    if len(pairs) == 1:
        (source, target), written = pairs[0], []
        with tqdm(desc=source.name, unit="strip", disable=None) as bar, logging_redirect_tqdm():

            def progress(done: int, count: int) -> None:
                bar.total, bar.n = count, done
                bar.refresh()

            if upscale_file(source, target, upscaler=upscalers[0], choices=choices, progress=progress):
                written.append(target)
        return written
    free: SimpleQueue[Upscaler] = SimpleQueue()
    for each in upscalers:
        free.put(each)
    stop = Event()

    def stop_when_told(done: int, count: int) -> None:
        if stop.is_set():
            raise _StoppedError(f"after {done} of {count} strips")

    def work(source: Path, target: Path) -> bool:
        upscaler = free.get()
        try:
            return upscale_file(source, target, upscaler=upscaler, choices=choices, progress=stop_when_told)
        finally:
            free.put(upscaler)

    written, failures = [], []
    with (
        ThreadPoolExecutor(len(upscalers)) as pool,
        tqdm(total=len(pairs), desc="upscale", unit="image", disable=None) as bar,
        logging_redirect_tqdm(),
    ):
        waiting = iter(pairs)
        running: dict[Future, tuple[Path, Path]] = {}
        try:
            while True:
                for source, target in waiting:
                    running[pool.submit(work, source, target)] = (source, target)
                    if len(running) == len(upscalers):
                        break
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    source, target = running.pop(future)
                    try:
                        if future.result():
                            written.append(target)
                    except (ValueError, OSError) as error:
                        failures.append(str(error) if str(source) in str(error) else f"{source}: {error}")
                        _logger.error(failures[-1])
                    bar.update()
        except BaseException:
            stop.set()  # images that are worked on end after the strip at hand, for --resume
            raise
    if failures:
        shown = "\n  ".join(failures[:SHOWN_FAILURES])
        more = f"\n  and {len(failures) - SHOWN_FAILURES} more" if len(failures) > SHOWN_FAILURES else ""
        raise UpscaleError(f"{len(failures)} of {len(pairs)} images could not be enlarged:\n  {shown}{more}")
    return written


def devices(text: str) -> list[torch.device]:
    """The devices that `text` names: "auto", "all" (CUDA devices), or a list such as "cuda:0,cuda:1".

    Raises:
        ValueError: one does not exist.
    """
    count = torch.cuda.device_count()
    if text in ("auto", "all"):
        names = [f"cuda:{number}" for number in range(count if text == "all" else min(count, 1))] or ["cpu"]
    else:
        names = text.split(",")
    found = []
    for name in names:
        try:
            device = torch.device(name)
        except RuntimeError as error:
            raise ValueError(f"device '{name}' is unknown: choose cpu, cuda, cuda:0,cuda:1, all or auto.") from error
        if device.type == "cuda" and (device.index or 0) >= count:
            raise ValueError(f"device '{name}' is not here: there are {count} CUDA devices.")
        found.append(device)
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m monai_ext upscale`."""
    parser.add_argument("input", nargs="+", type=Path, help="images, or folders of images (with subfolders)")
    parser.add_argument("output", type=Path, help="name of the enlarged image, or folder for all of them")
    parser.add_argument("--bundle", type=Path, default=Path("bundles/srgan_aerial"), help="the bundle's folder")
    parser.add_argument("--weights", type=Path, help="weights to use (default: models/model.pt of the bundle)")
    parser.add_argument("--scale", type=int, help="refuse to work unless the network enlarges so many times")
    parser.add_argument("--tile", type=int, default=256, help="side of the windows the network sees, in pixels (256)")
    parser.add_argument("--overlap", type=int, default=32, help="pixels that windows share, half of it per side (32)")
    parser.add_argument(
        "--mode",
        choices=("halo", "feather"),
        default="halo",
        help="throw the shared pixels away (halo), or fade from one window to the next in them (feather)",
    )
    parser.add_argument("--batch_size", type=int, default=4, help="windows per forward pass (4)")
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto", help="number format (auto)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, a list such as cuda:0,cuda:1, all, or auto")
    parser.add_argument("--jobs", type=int, default=1, help="images at a time on each device (1)")
    parser.add_argument("--bands", type=_numbers, metavar="N,N", help="bands to enlarge, numbered from 1 (all)")
    parser.add_argument(
        "--range",
        nargs="+",
        metavar="V",
        help="pixel values of black and white, or 'data' for each file's own lowest and highest "
        "(default: 0 and the highest value of 8 and 16 bits, 0 and 1 for floats)",
    )
    parser.add_argument("--cog", action="store_true", help="write Cloud-Optimised GeoTIFFs, with overviews")
    parser.add_argument("--resume", action="store_true", help="skip finished images, go on with unfinished ones")


def run(args: argparse.Namespace) -> int:
    """`python -m monai_ext upscale`: exit status 0; errors are raised."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    if args.jobs < 1:
        raise ValueError(f"--jobs is {args.jobs}: choose at least 1.")
    limits = _limits(args.range)
    pairs = plan_outputs(args.input, args.output)
    places = devices(args.device)
    network, identity = load_bundle_network(args.bundle, args.weights)
    upscalers = _upscalers(network, places, args)
    scale = upscalers[0].scale
    if args.scale not in (None, scale):
        raise ValueError(
            f"the network of {args.bundle} enlarges {scale} times, not {args.scale}: leave --scale out, or choose "
            "another bundle."
        )
    choices = Choices(limits=limits, bands=args.bands, cog=args.cog, resume=args.resume, identity=identity)
    written = upscale(pairs, upscalers=upscalers, choices=choices)
    skipped = len(pairs) - len(written)
    there = f", {skipped} were there already" if skipped else ""
    sys.stderr.write(f"{len(written)} of {len(pairs)} images enlarged {scale} times{there}: {args.output}\n")
    return 0


def _upscalers(network: nn.Module, places: Sequence[torch.device], args: argparse.Namespace) -> list[Upscaler]:
    """`args.jobs` for each device, all of one device with the same copy of the network."""
    made = []
    for number, place in enumerate(places):
        own = network if number == 0 else load_bundle_network(args.bundle, args.weights)[0]
        upscaler = Upscaler(
            own,
            tile=args.tile,
            overlap=args.overlap,
            mode=args.mode,
            batch_size=args.batch_size,
            precision=args.precision,
            device=place,
        )
        made += [upscaler] * args.jobs
    return made


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _limits(values: Sequence[str] | None) -> tuple[float, float] | Literal["data"] | None:
    if values is None:
        return None
    if list(values) == ["data"]:
        return "data"
    try:
        low, high = map(float, values)
    except ValueError:
        raise ValueError(f"--range {' '.join(values)}: give two numbers, or 'data'.") from None
    return low, high
