"""`viewer`: a page of samples, maps of uncertainty and intervals for a part of an image."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from torch import Tensor, nn
from tqdm import tqdm

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
from monai_ext.commands.upscaling.viewer_page import ViewerScene, viewer_page
from monai_ext.metrics.conformal import Calibration
from monai_ext.networks.projection import ConsistencyProjection
from monai_ext.raster.remote import Address, source_of
from monai_ext.raster.window import WindowRaster
from monai_ext.runtime.run_log import shows_progress, tell
from monai_ext.storage.files import write_text
from monai_ext.upscaling import Layers, Upscaler
from monai_ext.upscaling.outputs import band_labels

__all__ = ["ViewerOptions", "run", "viewer_scene", "write_viewer"]

_logger = logging.getLogger(__name__)

USUAL = 128  # low-resolution pixels of a side, if no window is named
NO_EPISTEMIC = "The weights are a single deterministic network's: there is no epistemic part. "
LONGEST = 256  # low-resolution pixels of a side: each layer of x4 then has a million pixels, all inside the page


@dataclass(frozen=True)
class ViewerOptions:
    """Write a page of a part of an image: samples, maps of uncertainty, and the interval of a clicked pixel.

    One HTML file that needs no server and fetches nothing. The network is stochastic, such as that of
    bundles/bayesian_srgan_aerial.
    """

    image: Positional[str]
    """an image at low resolution, or the address of a TIFF, as `upscale` takes it"""
    page: Positional[Path]
    """the page to write, such as page.html"""
    bundle: Path = Path("bundles/bayesian_srgan_aerial")
    """its folder, or the name of one that is shipped"""
    weights: Weights = ()
    """weights to use (models/model.pt of the bundle); given several times: an ensemble, by whose disagreement the
    epistemic uncertainty is measured"""
    window: Computed[Annotated[tuple[int, int, int, int] | None, arg(metavar="COLUMN ROW WIDTH HEIGHT")]] = None
    """part of the image, in its pixels (the middle, at most 128 x 128); at most 256 x 256"""
    samples: int = 8
    """images behind the slider"""
    bands: Computed[tuple[int, ...]] = ()
    """bands to take, numbered from 1 (all)"""
    values: ValueOptions = field(default_factory=ValueOptions)
    device: str = "auto"
    """cpu, cuda, cuda:1 or auto"""
    layers: SampleOptions = field(default_factory=SampleOptions)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bundle", bundle_folder(self.bundle))
        if Path(self.image).is_dir():
            raise ValueError(f"'{self.image}' is a folder: name one image in it; `rater_viewer` shows cases of raters.")
        if self.page.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"page '{self.page}': give it a name that ends in .html, so that browsers show it.")


def viewer_scene(
    upscaler: Upscaler,
    low_res: Tensor,
    *,
    bands: tuple[str, ...],
    low: float = 0.0,
    high: float = 1.0,
    original: Tensor | None = None,
    known: Tensor | None = None,
) -> ViewerScene:
    """The layers of `low_res` (C, h, w), C one or three, cut to [0, 1], as a page shows them.

    Args:
        upscaler: its layers are those of the page, uncertainty among them.
        bands: names of the C bands.
        low, high: pixel values that 0 and 1 stand for.
        original: (C, s*h, s*w) in [0, 1], where there is one.
        known: (h, w) of bool: pixels that are not missing; None: all.

    Raises:
        ValueError: its layers have no uncertainty.
    """
    layers = upscaler.layers
    if layers is None or not layers.uncertainty:
        raise ValueError("a page shows uncertainty: choose Layers(uncertainty=True).")
    low_res = low_res.clamp(0, 1)
    values = upscaler.predict_layers(low_res[None])[0].cpu().numpy()  # (layers * C, s*h, s*w)
    planes = dict(zip(layers.names, np.split(values, len(layers.names)), strict=True))
    if original is not None:
        planes["original"] = original.cpu().numpy()
    bounds = layers.bounds
    return ViewerScene(
        low_res=low_res.cpu().numpy(),
        layers=planes,
        deviations=layers.deviations,
        bands=bands,
        low=low,
        high=high,
        known=None if known is None or bool(known.all()) else known.cpu().numpy(),
        about=_about(layers, upscaler.scale, values.shape[-2:]),
        interval="interval" if bounds is None else f"{1 - bounds.alpha:.0%} interval",
    )


def _about(layers: Layers, scale: int, size: tuple[int, int]) -> str:
    bounds = (
        "There is no calibration, hence no interval."
        if layers.bounds is None
        else f"Intervals were calibrated ({layers.bounds.method}) to hold {1 - layers.bounds.alpha:.0%} of all values."
    )
    return (
        f"{size[0]} x {size[1]} pixels, {scale} times the low resolution in both directions. Every sample reduces to "
        f"the low resolution; {layers.samples} of them are behind the slider. Standard deviations come from "
        f"{layers.weight_samples} samples of the weights with {layers.latent_samples} of the latent each. {bounds} "
        f"{NO_EPISTEMIC if not layers.epistemic else ''}Upscaled detail is plausible, not observed."
    )


def write_viewer(path: str | Path, scene: ViewerScene, *, title: str) -> Path:
    """Write the page of `scene` to `path`, at once or not at all."""
    write_text(path, viewer_page(scene, title=title))
    return Path(path)


def run(options: ViewerOptions) -> int:
    """`python -m monai_ext viewer`."""
    network, _ = load_bundle_network(options.bundle, options.weights or None)
    bounds = _bounds(options.bundle, options.weights)
    layers = Layers(samples=options.samples, uncertainty=True, bounds=bounds, **options.layers.arguments(bounds))
    choices = options.values.choices(options.bundle, options.weights, bands=options.bands or None)
    image = source_of(options.image)
    with closing(choices.open(image)) as raster:
        upscaler = Upscaler(network, layers, batch_size=1, device=devices(options.device)[0])
        warn_without_epistemic(upscaler, options.bundle)
        column, row, width, height = window = _window(options.window, raster.info.size)
        part = WindowRaster(raster, window)
        if choices.preset is not None:
            choices.preset.warn_of_offset(part)
        # What is on a server is read no further than the window, not even for its range.
        coding = upscaler.plan(part if isinstance(image, Address) else raster, choices.limits_of(raster.info)).coding
        channels = coding.decode(part.rows(0, height))
        bands = tuple(label or "value" for label in band_labels(raster.info))
    known = channels[0, -coding.validity :].amin(0) > 0 if coding.validity else None
    with _progress(network, layers.samples + layers.weight_samples * layers.latent_samples):
        scene = viewer_scene(
            upscaler, channels[0, : coding.bands], bands=bands, low=coding.low, high=coding.high, known=known
        )
    write_viewer(options.page, scene, title=f"{image.name}: {width} x {height} from column {column}, row {row}")
    tell(f"the page: {options.page}")
    return 0


@contextmanager
def _progress(network: nn.Module, total: int) -> Iterator[None]:
    """A bar of the images that a network has computed: each is projected once."""

    def one_more(*_: object) -> None:
        bar.update()

    with tqdm(total=total, desc="viewer", unit="image", disable=not shows_progress(), leave=False) as bar:
        projections = [module for module in network.modules() if isinstance(module, ConsistencyProjection)]
        hooks = [module.register_forward_hook(one_more) for module in projections]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _bounds(bundle: Path, weights: Sequence[Path]) -> Calibration | None:
    """The calibration of these weights; without one the page has no intervals."""
    try:
        return calibration_for(bundle, weights)
    except FileNotFoundError:
        return None
    except ValueError as error:
        _logger.warning(f"no intervals on the page: {error}")
        return None


def _window(chosen: Sequence[int] | None, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(column, row, width, height) inside an image of `size` (H, W)."""
    height, width = size
    if chosen is None:
        wide, high = min(width, USUAL), min(height, USUAL)
        return (width - wide) // 2, (height - high) // 2, wide, high
    column, row, wide, high = chosen
    inside = 0 <= column < column + wide <= width and 0 <= row < row + high <= height
    if not inside or max(wide, high) > LONGEST:
        raise ValueError(
            f"--window {column} {row} {wide} {high}: choose a part of the image of {width} x {height} pixels, at most "
            f"{LONGEST} on a side, as COLUMN ROW WIDTH HEIGHT."
        )
    return column, row, wide, high
