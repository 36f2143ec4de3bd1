"""Upscale pictures and GeoTIFFs of any size with the super-resolution network of a bundle.

Windows with discarded or blended context leave no seams, memory does not grow with the height of an image, and place,
missing values, band count, type, colours and tags are kept. A run that was killed goes on with --resume.
"""

from __future__ import annotations

import argparse
import copy
import logging
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import nn

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
from monai_ext.upscaling import Choices, Layers, Upscaler, upscale_files

__all__ = ["add_arguments", "plan_outputs", "run"]

LONGEST_SUFFIX = 4  # letters of what looks like a kind of file


def plan_outputs(inputs: Sequence[str | Path], output: str | Path) -> list[tuple[Path, Path]]:
    """(image, where to write it upscaled) for files and folders; names and subfolders are kept.

    `output` is the name of the one output if there is one input file and `output` names a known kind of file, else a
    folder.

    Raises:
        FileNotFoundError: an input does not exist, or the folders hold no images.
        ValueError: two images would be written to one file, or an image over itself or another input; `output` is a
            kind of file that is not known, or one file for several images.
    """
    paths, output = [Path(each) for each in inputs], Path(output)
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"input {path} does not exist.")
    known = (*GDAL_SUFFIXES, *PILLOW_SUFFIXES)
    single = len(paths) == 1 and paths[0].is_file()
    if single and output.suffix.lower() in known and not output.is_dir():
        pairs = [(paths[0], output)]
    else:
        _check_folder(output, known, single=single)
        pairs = []
        for path in paths:
            images = _images(path, known) if path.is_dir() else [(path, Path(path.name))]
            pairs += [(image, output / name.with_suffix(output_suffix(image))) for image, name in images]
    if not pairs:
        raise FileNotFoundError(f"no images in {', '.join(map(str, paths))}: looked for {', '.join(known)}.")
    resolved = _Resolved()
    sources = {resolved(source) for source, _ in pairs}
    taken: dict[Path, Path] = {}
    for source, target in pairs:
        place = resolved(target)
        if place in sources:
            raise ValueError(f"output {target} is one of the inputs: choose another name or folder.")
        other = taken.setdefault(place, source)
        if other is not source:
            raise ValueError(f"{other} and {source} would both be written to {target}: upscale them one by one.")
    return pairs


def _check_folder(output: Path, known: Sequence[str], *, single: bool) -> None:
    """Refuse an `output` that is no folder, or looks like the name of a file."""
    if output.is_file():
        raise ValueError(f"output {output} is a file, and the images go to a folder: name another one.")
    suffix = output.suffix[1:]
    if single and suffix.isalpha() and len(suffix) <= LONGEST_SUFFIX and not output.exists():
        raise ValueError(
            f"output {output} is of an unknown kind: choose one of {', '.join(known)}, or make the folder first if it "
            "is one."
        )


class _Resolved:
    """`Path.resolve`, which reads each folder of a path from disk, once for all files of a folder."""

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m monai_ext upscale`."""
    parser.add_argument("input", nargs="+", type=Path, help="images, or folders of images (with subfolders)")
    parser.add_argument("output", type=Path, help="name of the upscaled image, or folder for all of them")
    parser.add_argument("--bundle", type=Path, default=Path("bundles/srgan_aerial"), help="its folder (%(default)s)")
    add_weights(parser)
    parser.add_argument("--scale", type=int, help="refuse to work unless the network upscales so many times")
    parser.add_argument("--tile", type=int, default=256, help="side of the network's windows, in pixels (256)")
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
        "of networks that predict a distribution, such as that of bundles/bayesian_srgan_aerial: named bands of a "
        "TIFF, or files in a folder for other kinds of pictures",
    )
    layers.add_argument("--samples", type=int, default=0, metavar="N", help="plausible images (0)")
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
            f"the network of {args.bundle} upscales {scale} times, not {args.scale}: leave --scale out, or choose "
            "another bundle."
        )
    if upscalers[0].layers is not None:
        _check_folders(pairs)
    choices = Choices(limits=limits, bands=args.bands, cog=args.cog, resume=args.resume, identity=identity)
    written = upscale_files(pairs, upscalers=upscalers, choices=choices)
    skipped = len(pairs) - len(written)
    there = f", {skipped} were there already" if skipped else ""
    sys.stderr.write(f"{len(written)} of {len(pairs)} images upscaled {scale} times{there}: {args.output}\n")
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
    """`args.jobs` for each device; without layers those of one device are the same."""
    layers = _layers(args)
    batch_size = args.batch_size or (4 if layers is None else 1)
    overlap, made = args.overlap, []
    for number, place in enumerate(places):
        own = network if number == 0 else load_bundle_network(args.bundle, args.weights)[0]
        # Samples of the weights need a copy for each thread.
        for each in [own] if layers is None else [own, *(copy.deepcopy(own) for _ in range(args.jobs - 1))]:
            upscaler = Upscaler(
                each,
                layers,
                tile=args.tile,
                overlap=overlap,
                mode=args.mode,
                batch_size=batch_size,
                precision=args.precision,
                device=place,
            )
            overlap = upscaler.inferer.overlap  # all networks are alike: the context is measured once
            made += [upscaler] * (args.jobs if layers is None else 1)
    return made


def _layers(args: argparse.Namespace) -> Layers | None:
    """The layers beside the mean; None for none."""
    if not (args.samples or args.bounds or args.uncertainty):
        return None
    bounds = calibration_for(args.bundle, args.weights) if args.bounds else None
    return Layers(samples=args.samples, bounds=bounds, uncertainty=args.uncertainty, **draws(args, bounds))
