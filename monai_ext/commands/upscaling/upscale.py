"""`upscale`: pictures and GeoTIFFs of any size through the super-resolution network of a bundle."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
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
from monai_ext.commands.upscaling.map_tiles import (
    Scheme,
    check_joined,
    check_sizes,
    deeper_pairs,
    finer_places,
    grid_of,
)
from monai_ext.commands.upscaling.output_names import check_layer_folders, image_files, plan_outputs
from monai_ext.data.tiles.grid import finer_tiles
from monai_ext.runtime.run_log import tell
from monai_ext.upscaling import Layers, Upscaler, upscale_files
from monai_ext.upscaling.mosaic import write_mosaic

__all__ = ["WAY_ON", "UpscaleOptions", "run"]

_logger = logging.getLogger(__name__)

WAY_ON = "the same command with --resume goes on from the strips that are finished"


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
    scheme: Scheme = "auto"
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
        check_layer_folders(pairs)
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
        grid = grid_of(
            image_files(pairs), choices, scheme=options.scheme, alone=options.deeper, context=not options.no_context
        )
    if options.deeper:
        cells = partial(finer_tiles, times=scale, from_south=grid is not None and grid.from_south)
        choices = replace(choices, cells=cells)
        pairs = deeper_pairs(pairs, output, grid, cells, layers=upscalers[0].layers is not None)
    placed = {source: target for source, target in pairs if isinstance(source, Path) and grid and source in grid}
    tiles = [] if grid is None else [(grid.address(source), target) for source, target in placed.items()]
    if options.deeper:
        tiles = [(finer, path) for address, target in tiles for finer, path in finer_places(address, cells(target))]
    if options.mosaic is not None:
        check_joined(options.mosaic, tiles, pairs, layers=upscalers[0].layers is not None)
        check_sizes(options.mosaic, list(placed))
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


def _network(options: UpscaleOptions) -> tuple[nn.Module, str]:
    """The network, and a digest of its weights."""
    blend: dict[str, Any] = {"realism": options.realism, "adversarial_weights": options.adversarial_weights}
    return load_bundle_network(options.bundle, options.weights or None, **blend)


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
