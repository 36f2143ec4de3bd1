"""Write a page of an image's samples, maps of standard deviations, and the interval of a clicked pixel.

One HTML file that needs no server and fetches nothing. The network predicts a distribution, such as that of
bundles/bayesian_srgan_aerial.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from torch import Tensor

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
from monai_ext.commands.upscaling.viewer_page import ViewerScene, viewer_page
from monai_ext.metrics.conformal import Calibration
from monai_ext.raster.opening import open_raster
from monai_ext.storage.files import write_text
from monai_ext.upscaling import Layers, Upscaler
from monai_ext.upscaling.layers import DEVIATIONS
from monai_ext.upscaling.outputs import band_labels

__all__ = ["add_arguments", "run", "viewer_scene", "write_viewer"]

_logger = logging.getLogger(__name__)

USUAL = 128  # low-resolution pixels of a side, if no window is named
LONGEST = 256  # low-resolution pixels of a side: each layer of x4 then has a million pixels, all inside the page


def viewer_scene(
    upscaler: Upscaler,
    low_res: Tensor,
    *,
    bands: tuple[str, ...],
    low: float = 0.0,
    high: float = 1.0,
    original: Tensor | None = None,
) -> ViewerScene:
    """The layers of `low_res` (C, h, w) in [0, 1], C one or three, as a page shows them.

    Args:
        upscaler: its layers are those of the page, uncertainty among them.
        bands: names of the C bands.
        low, high: pixel values that 0 and 1 stand for.
        original: (C, s*h, s*w) in [0, 1], where it is known.

    Raises:
        ValueError: its layers have no uncertainty.
    """
    layers = upscaler.layers
    if layers is None or not layers.uncertainty:
        raise ValueError("a page shows uncertainty: choose Layers(uncertainty=True).")
    values = upscaler.predict_layers(low_res[None])[0].cpu().numpy()  # (layers * C, s*h, s*w)
    planes = dict(zip(layers.names, np.split(values, len(layers.names)), strict=True))
    if original is not None:
        planes["original"] = original.cpu().numpy()
    bounds = layers.bounds
    return ViewerScene(
        low_res=low_res.cpu().numpy(),
        layers=planes,
        deviations=DEVIATIONS,
        bands=bands,
        low=low,
        high=high,
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
        "Upscaled detail is plausible, not observed."
    )


def write_viewer(path: str | Path, scene: ViewerScene, *, title: str) -> Path:
    """Write the page of `scene` to `path`, at once or not at all."""
    write_text(path, viewer_page(scene, title=title))
    return Path(path)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m monai_ext viewer`."""
    parser.add_argument("image", type=Path, help="an image at low resolution, as `upscale` takes it")
    parser.add_argument("page", type=Path, help="the page to write, such as page.html")
    parser.add_argument(
        "--bundle", type=Path, default=Path("bundles/bayesian_srgan_aerial"), help="its folder (%(default)s)"
    )
    add_weights(parser)
    parser.add_argument(
        "--window",
        type=int,
        nargs=4,
        metavar=("COLUMN", "ROW", "WIDTH", "HEIGHT"),
        help=f"part of the image, in its pixels (default: the middle, at most {USUAL} x {USUAL}; at most {LONGEST})",
    )
    parser.add_argument("--samples", type=int, default=8, metavar="N", help="images behind the slider (8)")
    add_draws(parser)
    add_pixels(parser)
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 or auto")


def run(args: argparse.Namespace) -> int:
    """`python -m monai_ext viewer`: exit status 0; errors are raised."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    if args.image.is_dir():
        raise ValueError(f"'{args.image}' is a folder: name one image in it, a page shows one.")
    if args.page.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"page '{args.page}': give it a name that ends in .html, by which browsers know it.")
    network, _ = load_bundle_network(args.bundle, args.weights)
    bounds = _bounds(args.bundle, args.weights)
    layers = Layers(samples=args.samples, uncertainty=True, bounds=bounds, **draws(args, bounds))
    with closing(open_raster(args.image, bands=args.bands)) as raster:
        upscaler = Upscaler(network, layers, batch_size=1, device=devices(args.device)[0])
        coding = upscaler.plan(raster, pixel_limits(args.range)).coding
        column, row, width, height = _window(args.window, raster.info.size)
        channels = coding.decode(raster.rows(row, row + height)[..., column : column + width])
        bands = tuple(label or "value" for label in band_labels(raster.info))
    scene = viewer_scene(upscaler, channels[0, : coding.bands], bands=bands, low=coding.low, high=coding.high)
    write_viewer(args.page, scene, title=f"{args.image.name}: {width} x {height} from column {column}, row {row}")
    sys.stderr.write(f"the page: {args.page}\n")
    return 0


def _bounds(bundle: Path, weights: Sequence[Path] | None) -> Calibration | None:
    """The calibration of these weights; without one the page has no intervals."""
    try:
        return calibration_for(bundle, weights)
    except FileNotFoundError:
        return None
    except ValueError as error:
        _logger.warning(f"no intervals on the page: {error}")
        return None


def _window(asked: Sequence[int] | None, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(column, row, width, height) inside an image of `size` (H, W)."""
    height, width = size
    if asked is None:
        wide, high = min(width, USUAL), min(height, USUAL)
        return (width - wide) // 2, (height - high) // 2, wide, high
    column, row, wide, high = asked
    inside = 0 <= column < column + wide <= width and 0 <= row < row + high <= height
    if not inside or max(wide, high) > LONGEST:
        raise ValueError(
            f"--window {column} {row} {wide} {high}: choose a part of the image of {width} x {height} pixels, at most "
            f"{LONGEST} on a side, as COLUMN ROW WIDTH HEIGHT."
        )
    return column, row, wide, high
