"""Enlarge pictures and GeoTIFFs of any size with the super-resolution network of a bundle.

Windows with discarded or faded context leave no seams, memory does not grow with the height of an image, and place,
missing values, band count, type, colours and tags are kept. A run that was killed goes on with --resume.
"""

from __future__ import annotations

import argparse
import copy
import logging
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue
from threading import Event

import torch
from torch import nn
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from monai_ext.commands.bundles.network import load_bundle_network
from monai_ext.commands.upscaling.image_options import (
    add_draws,
    add_pixels,
    add_weights,
    calibration_for,
    devices,
    draws,
    pixel_limits,
)
from monai_ext.raster.opening import GDAL_SUFFIXES, PILLOW_SUFFIXES, output_suffix
from monai_ext.storage.folders import files_below
from monai_ext.upscaling.file import Choices, upscale_file
from monai_ext.upscaling.layered_upscaler import LayeredUpscaler
from monai_ext.upscaling.layers import Layers
from monai_ext.upscaling.upscaler import Upscaler

__all__ = ["Choices", "UpscaleError", "add_arguments", "plan_outputs", "run", "upscale", "upscale_file"]

_logger = logging.getLogger(__name__)

SHOWN_FAILURES = 10
LONGEST_SUFFIX = 4  # letters of what looks like a kind of file


class UpscaleError(ValueError):
    """Some of several images could not be enlarged; the others are done."""


class _StoppedError(Exception):
    """An image was left unfinished because the run was broken off."""


def plan_outputs(inputs: Sequence[str | Path], output: str | Path) -> list[tuple[Path, Path]]:
    """(image, where to write it enlarged) for files and folders; names and subfolders are kept.

    `output` is the name of the one output if there is one input file and `output` names a known kind of file, else a
    folder.

    Raises:
        FileNotFoundError: an input does not exist, or the folders hold no images.
        ValueError: two images would be written to one file, or an image over itself or another input; `output` is a
            kind of file that is not known, or one file for several images.
    """
    inputs, output = [Path(each) for each in inputs], Path(output)
    for each in inputs:
        if not each.exists():
            raise FileNotFoundError(f"input {each} does not exist.")
    known = (*GDAL_SUFFIXES, *PILLOW_SUFFIXES)
    if len(inputs) == 1 and inputs[0].is_file() and output.suffix.lower() in known and not output.is_dir():
        pairs = [(inputs[0], output)]
    else:
        _check_folder(output, known, single=len(inputs) == 1 and inputs[0].is_file())
        pairs = []
        for each in inputs:
            images = _images(each, known) if each.is_dir() else [(each, Path(each.name))]
            pairs += [(path, output / name.with_suffix(output_suffix(path))) for path, name in images]
    if not pairs:
        raise FileNotFoundError(f"no images in {', '.join(map(str, inputs))}: looked for {', '.join(known)}.")
    resolved = _Resolved()
    sources = {resolved(source) for source, _ in pairs}
    taken: dict[Path, Path] = {}
    for source, target in pairs:
        place = resolved(target)
        if place in sources:
            raise ValueError(f"output {target} is one of the inputs: choose another name or folder.")
        other = taken.setdefault(place, source)
        if other is not source:
            raise ValueError(f"{other} and {source} would both be written to {target}: enlarge them one by one.")
    return pairs


def _check_folder(output: Path, known: Sequence[str], *, single: bool) -> None:
    """`output` is to be a folder; what looks like the name of a file is told."""
    if output.is_file():
        raise ValueError(f"output {output} is a file, and the images go to a folder: name another one.")
    suffix = output.suffix[1:]
    if single and suffix.isalpha() and len(suffix) <= LONGEST_SUFFIX and not output.exists():
        raise ValueError(
            f"output {output} is of an unknown kind: choose one of {', '.join(known)}, or make the folder first if it "
            "is one."
        )


class _Resolved:
    """`Path.resolve`, which asks the disk about each folder of a path, once for all files of a folder."""

    def __init__(self) -> None:
        self.folders: dict[Path, Path] = {}

    def __call__(self, path: Path) -> Path:
        if path.is_symlink():
            return path.resolve()
        if path.parent not in self.folders:
            self.folders[path.parent] = path.parent.resolve()
        return self.folders[path.parent] / path.name


def _images(folder: Path, known: Iterable[str]) -> list[tuple[Path, Path]]:
    images = sorted((path for path in files_below(folder) if path.suffix.lower() in known), key=lambda path: path.parts)
    return [(path, path.relative_to(folder)) for path in images]


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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m monai_ext upscale`."""
    parser.add_argument("input", nargs="+", type=Path, help="images, or folders of images (with subfolders)")
    parser.add_argument("output", type=Path, help="name of the enlarged image, or folder for all of them")
    parser.add_argument("--bundle", type=Path, default=Path("bundles/srgan_aerial"), help="its folder (%(default)s)")
    add_weights(parser)
    parser.add_argument("--scale", type=int, help="refuse to work unless the network enlarges so many times")
    parser.add_argument("--tile", type=int, default=256, help="side of the windows the network sees, in pixels (256)")
    parser.add_argument(
        "--overlap",
        type=int,
        help="pixels that windows share, half of it per side (what the network needs to leave no seams, from 32)",
    )
    parser.add_argument(
        "--mode",
        choices=("halo", "feather"),
        default="halo",
        help="throw the shared pixels away (halo), or fade from one window to the next in them (feather)",
    )
    parser.add_argument("--batch_size", type=int, help="windows per forward pass (4; 1 for layers)")
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto", help="number format (auto)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, a list such as cuda:0,cuda:1, all, or auto")
    parser.add_argument("--jobs", type=int, default=1, help="images at a time on each device (1)")
    add_pixels(parser)
    parser.add_argument("--cog", action="store_true", help="write Cloud-Optimised GeoTIFFs, with overviews")
    parser.add_argument("--resume", action="store_true", help="skip finished images, go on with unfinished ones")
    layers = parser.add_argument_group(
        "layers",
        "of networks that know several answers, such as that of bundles/bayesian_srgan_aerial: named bands of a TIFF, "
        "or files in a folder for other kinds of pictures",
    )
    layers.add_argument("--samples", type=int, default=0, metavar="N", help="images that could be the original (0)")
    layers.add_argument(
        "--bounds",
        action="store_true",
        help="lower and upper bound of each value, by the calibration beside the weights",
    )
    layers.add_argument(
        "--uncertainty",
        action="store_true",
        help="standard deviations: aleatoric, ambiguity, epistemic, and total of all three; all bands become floats",
    )
    add_draws(layers)


def run(args: argparse.Namespace) -> int:
    """`python -m monai_ext upscale`: exit status 0; errors are raised."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    if args.jobs < 1:
        raise ValueError(f"--jobs is {args.jobs}: choose at least 1.")
    limits = pixel_limits(args.range)
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
    if isinstance(upscalers[0], LayeredUpscaler):
        _check_folders(pairs)
    choices = Choices(limits=limits, bands=args.bands, cog=args.cog, resume=args.resume, identity=identity)
    written = upscale(pairs, upscalers=upscalers, choices=choices)
    skipped = len(pairs) - len(written)
    there = f", {skipped} were there already" if skipped else ""
    sys.stderr.write(f"{len(written)} of {len(pairs)} images enlarged {scale} times{there}: {args.output}\n")
    return 0


def _check_folders(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Layers of pictures go to folders: "a.png" and "a.jpg" to the same one, and no input may lie there."""
    taken: dict[Path, Path] = {}
    resolved = _Resolved()
    inputs = {resolved(source).parent: source for source, _ in pairs}
    for source, target in pairs:
        if target.suffix.lower() in (".tif", ".tiff"):
            continue
        folder = target.with_suffix("")
        place = folder.resolve()
        if place in inputs:
            raise ValueError(
                f"the layers of {source} go to the folder {folder}, where the input {inputs[place]} lies and might be "
                "overwritten: choose another name or folder."
            )
        other = taken.setdefault(place, source)
        if other is not source:
            raise ValueError(f"layers of {other} and {source} would both be written to {folder}: do them apart.")


def _upscalers(network: nn.Module, places: Sequence[torch.device], args: argparse.Namespace) -> list[Upscaler]:
    """`args.jobs` for each device, all of one device with the same copy of the network."""
    layers = _layers(args)
    windows = {"tile": args.tile, "overlap": args.overlap, "mode": args.mode}
    made = []
    for number, place in enumerate(places):
        own = network if number == 0 else load_bundle_network(args.bundle, args.weights)[0]
        if layers is None:
            upscaler = Upscaler(own, **windows, batch_size=args.batch_size or 4, precision=args.precision, device=place)
            made += [upscaler] * args.jobs
        else:  # draws of the weights need a copy for each thread
            copies = [own, *(copy.deepcopy(own) for _ in range(args.jobs - 1))]
            windows |= {"batch_size": args.batch_size or 1, "device": place}
            for each in copies:
                made.append(LayeredUpscaler(each, layers, **windows))
                windows["overlap"] = made[0].inferer.overlap  # all networks are alike: one is asked
    return made


def _layers(args: argparse.Namespace) -> Layers | None:
    """The layers that are asked for beside the mean; None for none."""
    if not (args.samples or args.bounds or args.uncertainty):
        return None
    if args.precision == "bf16":
        raise ValueError("--precision bf16: samples, bounds and uncertainty are computed in float32, leave it out.")
    bounds = calibration_for(args.bundle, args.weights) if args.bounds else None
    return Layers(samples=args.samples, bounds=bounds, uncertainty=args.uncertainty, **draws(args, bounds))
