"""`upscale`: pictures and GeoTIFFs of any size through the super-resolution network of a bundle."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import nn

from monai_ext.commands.bundles.network import load_bundle_network
from monai_ext.commands.bundles.shipped import bundle_folder
from monai_ext.commands.command_line import Computed, Positional, arg
from monai_ext.commands.upscaling.image_options import (
    SampleOptions,
    ValueOptions,
    Weights,
    calibration_for,
    devices,
    warn_without_epistemic,
)
from monai_ext.data.tiles.grid import TileAddress, finer_tiles, tile_address
from monai_ext.data.tiles.neighbours import TileGrid
from monai_ext.data.tiles.pixel_scale import find_scale
from monai_ext.raster.opening import GDAL_SUFFIXES, PILLOW_SUFFIXES, output_suffix, stored_size, stored_type
from monai_ext.raster.remote import Address, Source, source_of
from monai_ext.runtime.run_log import tell
from monai_ext.storage.folders import files_below
from monai_ext.upscaling import Choices, Layers, Upscaler, upscale_files
from monai_ext.upscaling.mosaic import check_mosaic, write_mosaic
from monai_ext.upscaling.outputs import Cells

__all__ = ["WAY_ON", "UpscaleOptions", "plan_outputs", "run"]

_logger = logging.getLogger(__name__)

WAY_ON = "the same command with --resume goes on from the strips that are finished"
LONGEST_SUFFIX = 4  # letters of what looks like a kind of file


@dataclass(frozen=True)
class LayerOptions(SampleOptions):
    """Of stochastic networks, such as that of bundles/bayesian_srgan_aerial: named bands of a TIFF, or files in a
    folder for other kinds of pictures."""

    samples: int = 0
    """plausible images"""
    bounds: bool = False
    """lower and upper bound of each value, by the calibration beside the weights"""
    uncertainty: bool = False
    """standard deviations: aleatoric, ambiguity, epistemic (but for a single deterministic network), and total; all
    bands become floats"""


@dataclass(frozen=True)
class UpscaleOptions:
    """Upscale pictures and GeoTIFFs of any size with the super-resolution network of a bundle.

    Windows with discarded or blended context leave no seams, memory does not grow with the height of an image, and
    place, missing values, band count, type, colours and tags are kept. A run that was killed goes on with --resume.

    Tiles named z/x/y (or z_x_y), as fetch_tiles writes them, have their neighbours as context and join without steps.
    Where a neighbour is missing, or has another size, type or number of bands, the border is that of an image. They
    keep their names and sizes are multiplied, or are cut into tiles of a finer zoom (--deeper).
    """

    paths: Annotated[Positional[tuple[str, ...]], arg(metavar="INPUT [INPUT ...] OUTPUT", help_behavior_hint="")]
    """images, folders of images (with subfolders), or addresses https://... of TIFFs, of which only the parts needed
    are fetched; last the name of the upscaled image, or a folder for all"""
    bundle: Path = Path("bundles/srgan_aerial")
    """its folder, or the name of one that is shipped"""
    weights: Weights = ()
    """weights to use (models/model.pt of the bundle); given several times, of a stochastic network: an ensemble, by
    whose disagreement the epistemic uncertainty is measured"""
    realism: float = 0.0
    """share of the weights trained against a discriminator: 0 for the lowest error, up to 1 for the most texture"""
    adversarial_weights: Computed[Path | None] = None
    """weights that --realism leads to (models/adversarial.pt of the bundle)"""
    scale: Computed[int | None] = None
    """refuse to work unless the network upscales so many times"""
    tile: int = 256
    """side of the network's windows, in pixels"""
    overlap: Computed[int | None] = None
    """pixels that windows share, half of it per side (what the network needs to leave no seams, from 32)"""
    mode: Literal["halo", "feather"] = "halo"
    """discard the shared pixels (halo), or fade from one window to the next in them (feather)"""
    batch_size: Computed[int | None] = None
    """windows per forward pass (4; 1 for layers)"""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """number format"""
    device: str = "auto"
    """cpu, cuda, a list such as cuda:0,cuda:1, all, or auto"""
    jobs: int = 1
    """images at a time on each device"""
    bands: Computed[tuple[int, ...]] = ()
    """bands to take, numbered from 1 (all)"""
    window: Computed[Annotated[tuple[int, int, int, int] | None, arg(metavar="COLUMN ROW WIDTH HEIGHT")]] = None
    """part of each image to upscale, in pixels; what lies around it is context (the whole)"""
    bbox: Computed[Annotated[tuple[float, float, float, float] | None, arg(metavar="W S E N")]] = None
    """such a part of a georeferenced image, in degrees"""
    values: ValueOptions = field(default_factory=ValueOptions)
    scheme: Literal["auto", "xyz", "tms"] = "auto"
    """how map tiles count their rows: xyz from the north, tms from the south (found from their pixels)"""
    no_context: bool = False
    """upscale each tile z/x/y by itself, without its neighbours"""
    deeper: bool = False
    """cut upscaled map tiles into tiles of the old size, at the zoom where they belong: for 4 times z+2/4x+i/4y+j"""
    mosaic: Computed[Path | None] = None
    """also join the upscaled tiles z/x/y of one zoom to this GeoTIFF in EPSG:3857 (none)"""
    cog: bool = False
    """write Cloud-Optimised GeoTIFFs, with overviews"""
    resume: bool = False
    """skip finished images, go on with unfinished ones"""
    layers: LayerOptions = field(default_factory=LayerOptions)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bundle", bundle_folder(self.bundle))
        if len(self.paths) < 2:
            raise ValueError("name one input or more, and the output.")
        if self.jobs < 1:
            raise ValueError(f"--jobs is {self.jobs}: choose at least 1.")
        if (self.window or self.bbox) and (self.window and self.bbox or self.mosaic or self.deeper):
            raise ValueError(
                "--window or --bbox takes a part of each image: leave out the other, --mosaic and --deeper."
            )


def plan_outputs(inputs: Sequence[str | Path], output: str | Path) -> list[tuple[Source, Path]]:
    """(image, where to write it upscaled) for files, folders and addresses; names and subfolders are kept.

    `output` is the name of the one output if there is one input file and `output` names a known kind of file, else a
    folder.

    Raises:
        FileNotFoundError: an input does not exist, or the folders hold no images.
        ValueError: two images would be written to one file, or an image over itself or another input; `output` is a
            kind of file that is not known, or one file for several images.
    """
    paths, output = [source_of(each) for each in inputs], Path(output)
    for path in paths:
        if isinstance(path, Path) and not path.exists():
            raise FileNotFoundError(f"input {path} does not exist.")
    known = (*GDAL_SUFFIXES, *PILLOW_SUFFIXES)
    single = len(paths) == 1 and (isinstance(paths[0], Address) or paths[0].is_file())
    pairs: list[tuple[Source, Path]]
    if single and output.suffix.lower() in known and not output.is_dir():
        pairs = [(paths[0], output)]
    else:
        _check_folder(output, known, single=single)
        pairs = []
        for path in paths:
            if isinstance(path, Address):
                pairs.append((path, output / path.name))
                continue
            images = _images(path, known) if path.is_dir() else [(path, Path(path.name))]
            pairs += [(image, output / name.with_suffix(output_suffix(image))) for image, name in images]
    if not pairs:
        raise FileNotFoundError(f"no images in {', '.join(map(str, paths))}: looked for {', '.join(known)}.")
    resolved = _Resolved()
    sources = {resolved(source) for source in _files(pairs)}
    taken: dict[Path, Source] = {}
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


def _files(pairs: Iterable[tuple[Source, Path]]) -> list[Path]:
    """The images that are files."""
    return [source for source, _ in pairs if isinstance(source, Path)]


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


def run(options: UpscaleOptions) -> int:
    """`python -m monai_ext upscale`."""
    inputs, output = options.paths[:-1], Path(options.paths[-1])
    pairs = plan_outputs(inputs, output)
    places = devices(options.device)
    network, identity = _network(options)
    upscalers = _upscalers(network, places, options)
    warn_without_epistemic(upscalers[0], options.bundle)
    scale = upscalers[0].scale
    if options.scale not in (None, scale):
        raise ValueError(
            f"the network of {options.bundle} upscales {scale} times, not {options.scale}: leave --scale out, or "
            "choose another bundle."
        )
    if upscalers[0].layers is not None:
        _check_folders(pairs)
    choices = options.values.choices(
        options.bundle,
        options.weights,
        bands=options.bands or None,
        cog=options.cog,
        resume=options.resume,
        identity=identity,
        window=options.window,
        bbox=options.bbox,
    )
    grid = None
    if options.mosaic is not None or options.deeper or not (options.no_context or options.window or options.bbox):
        grid = _grid(_files(pairs), choices, options)
    if options.deeper:
        cells = partial(finer_tiles, times=scale, from_south=grid is not None and grid.from_south)
        choices = replace(choices, cells=cells)
        pairs = _deeper_pairs(pairs, output, grid, cells, layers=upscalers[0].layers is not None)
    placed = {source: target for source, target in pairs if isinstance(source, Path) and grid and source in grid}
    tiles = [] if grid is None else [(grid.address(source), target) for source, target in placed.items()]
    if options.deeper:
        tiles = [(finer, path) for address, target in tiles for finer, path in _finer(address, cells(target))]
    if options.mosaic is not None:
        _check_mosaic(options.mosaic, tiles, pairs, layers=upscalers[0].layers is not None)
        _check_sizes(options.mosaic, list(placed))
    if not options.no_context and grid is not None and grid.has_neighbours:
        choices = replace(choices, grid=grid)
    written = upscale_files(pairs, upscalers=upscalers, choices=choices)
    skipped = len(pairs) - len(written)
    there = f", {skipped} were there already" if skipped else ""
    tell(f"{len(written)} of {len(pairs)} images upscaled {scale} times{there}: {output}")
    if options.mosaic is not None:
        write_mosaic(options.mosaic, dict(tiles), cog=options.cog)
        tell(f"mosaic of {len(tiles)} tiles: {options.mosaic}")
    return 0


def _deeper_pairs(
    pairs: Sequence[tuple[Source, Path]],
    output: Path,
    grid: TileGrid | None,
    cells: Callable[[Path], Cells],
    *,
    layers: bool,
) -> list[tuple[Source, Path]]:
    """`pairs` with targets Z/X/Y.png in `output`, or Z_X_Y.png, out of which `cells` makes finer tiles."""
    if layers:
        raise ValueError("--deeper: it cuts no samples, bounds or uncertainty; leave them out, or --deeper.")
    resolved, named = _Resolved(), []
    sources = {resolved(source) for source in _files(pairs)}
    for source, target in pairs:
        if target == output:
            raise ValueError(f"--deeper: the output {output} is a file, and the tiles go to a folder: name one.")
        address = tile_address(source) if isinstance(source, Path) else None
        if grid is None or source not in grid or address is None:
            raise ValueError(
                f"--deeper: {source} is no map tile Z/X/Y.png or Z_X_Y.png beside others that it fits; if it is one, "
                "--scheme xyz (or tms) takes it so."
            )
        parts = target.relative_to(output).parts
        if "_" not in source.stem and len(parts) < 3:  # the folder of a zoom or a column was named, or a file
            target = output.joinpath(*map(str, address[:2]), target.name)
        named.append((source, target))
        twice = next((path for row in cells(target) for path in row if resolved(path) in sources), None)
        if twice is not None:
            raise ValueError(f"--deeper: {twice} is one of the inputs, choose another output folder.")
    return named


def _finer(address: TileAddress, cells: Cells) -> Iterator[tuple[TileAddress, Path]]:
    """The places of the tiles that one is cut into, with y from the north."""
    times = len(cells)
    for row, paths in enumerate(cells):
        for column, path in enumerate(paths):
            zoom = (address.zoom or 0) + times.bit_length() - 1
            yield TileAddress(zoom, times * address.x + column, times * address.y + row), path


def _check_mosaic(
    mosaic: Path, tiles: Sequence[tuple[TileAddress, Path]], pairs: Sequence[tuple[Source, Path]], *, layers: bool
) -> None:
    resolved, places = _Resolved(), dict(tiles)
    if not tiles:
        raise ValueError(
            f"--mosaic {mosaic}: the images are no grid of map tiles, Z/X/Y.png or Z_X_Y.png, that fit together; if "
            "they are one, --scheme xyz (or tms) takes them so."
        )
    if layers:
        raise ValueError(f"--mosaic {mosaic}: it joins no samples, bounds or uncertainty; leave them out, or --mosaic.")
    if resolved(mosaic) in {resolved(path) for pair in pairs for path in pair if isinstance(path, Path)}:
        raise ValueError(f"--mosaic {mosaic}: it is one of the images, choose another name.")
    twice = [(target, places[address]) for address, target in tiles if places[address] is not target]
    if twice:
        one, other = twice[0]
        raise ValueError(f"--mosaic {mosaic}: {one} and {other} would lie at one place: upscale one folder of tiles.")
    check_mosaic(mosaic, places)


def _check_sizes(mosaic: Path, sources: Sequence[Path]) -> None:
    sizes = {stored_size(source): source for source in sources}
    if len(sizes) > 1:
        some = ", ".join(f"{width} x {height} ({path})" for (height, width), path in sorted(sizes.items()))
        raise ValueError(f"--mosaic {mosaic}: the tiles have several sizes, {some}: join those of one size.")


def _grid(sources: Sequence[Path], choices: Choices, options: UpscaleOptions) -> TileGrid | None:
    """The grid of map tiles that some of the images are; deep ones have one range, so that they fit together."""
    given = options.scheme != "auto"
    grid = TileGrid(sources, from_south=options.scheme == "tms" if given else None)
    if not (grid.has_neighbours or len(grid) and (given or options.deeper)):
        return None
    if not grid.fits:
        _logger.warning(
            f"{len(grid)} of {len(sources)} images have names of map tiles, but their borders do not fit together: "
            "each is upscaled by itself (--scheme xyz or tms: they do, whatever their pixels)"
        )
        return None
    if options.no_context or not grid.has_neighbours:
        return grid
    dtype = stored_type(next(iter(grid)))
    trained = choices.scale is not None and choices.scale.dtype == dtype.name
    if dtype.itemsize > 1 and choices.limits is None and not trained:
        items = [{"image": file} for file in grid if stored_type(file) == dtype]
        no_alpha = choices.no_alpha or (choices.scale is not None and choices.scale.no_alpha)
        grid.scale = find_scale(items, nodata=choices.nodata, no_alpha=no_alpha, option="--range LOW HIGH")
    tell(
        f"{len(grid)} of {len(sources)} images are tiles of a grid{', rows from the south' * grid.from_south}: "
        "their neighbours are their context (--no_context: each by itself)"
    )
    return grid


def _network(options: UpscaleOptions) -> tuple[nn.Module, str]:
    """The network, and a digest of its weights."""
    blend: dict[str, Any] = {"realism": options.realism, "adversarial_weights": options.adversarial_weights}
    return load_bundle_network(options.bundle, options.weights or None, **blend)


def _check_folders(pairs: Sequence[tuple[Source, Path]]) -> None:
    """Layers of pictures go to folders: "a.png" and "a.jpg" to the same one, and no input may lie there."""
    taken: dict[Path, Source] = {}
    resolved = _Resolved()
    inputs = {resolved(source).parent: source for source in _files(pairs)}
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
            raise ValueError(
                f"layers of {other} and {source} would both be written to {folder}: upscale them one by one."
            )


def _upscalers(network: nn.Module, places: Sequence[torch.device], options: UpscaleOptions) -> list[Upscaler]:
    """`options.jobs` for each device; without layers those of one device are the same."""
    layers = _layers(options)
    batch_size = options.batch_size or (4 if layers is None else 1)
    overlap, made = options.overlap, []
    for number, place in enumerate(places):
        own = network if number == 0 else _network(options)[0]
        # Samples of the weights need a copy for each thread.
        for each in [own] if layers is None else [own, *(copy.deepcopy(own) for _ in range(options.jobs - 1))]:
            upscaler = Upscaler(
                each,
                layers,
                tile=options.tile,
                overlap=overlap,
                mode=options.mode,
                batch_size=batch_size,
                precision=options.precision,
                device=place,
            )
            overlap = upscaler.inferer.overlap  # all networks are alike: the context is measured once
            made += [upscaler] * (options.jobs if layers is None else 1)
    return made


def _layers(options: UpscaleOptions) -> Layers | None:
    """The layers beside the mean; None for none."""
    chosen = options.layers
    if not (chosen.samples or chosen.bounds or chosen.uncertainty):
        return None
    bounds = calibration_for(options.bundle, options.weights) if chosen.bounds else None
    return Layers(samples=chosen.samples, bounds=bounds, uncertainty=chosen.uncertainty, **chosen.arguments(bounds))
