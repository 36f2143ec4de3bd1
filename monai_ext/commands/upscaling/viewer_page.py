"""One HTML file of samples, maps of standard deviations and the interval of a clicked pixel.

All values travel as 8-bit PNGs inside the page and are read back from a canvas: it needs no server and fetches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from monai_ext.commands.rendering import png_url, render
from monai_ext.commands.terms import TERMS

__all__ = ["ViewerScene", "viewer_page"]


OWN_TERMS = {
    "mean": "of all samples, which are more than those behind the slider",
    "standard deviation": "square root of the predictive variance",
    "total": "square root of the sum of all parts of the variance",
    "interval": "holds the stated share of all values, calibrated on other images",
}
EXPLAINED = ("sample", "aleatoric", "ambiguity", "epistemic")


@dataclass(frozen=True)
class ViewerScene:
    """What a page shows.

    Attributes:
        low_res: (C, h, w) in [0, 1], one band or three.
        layers: name -> (C, H, W), "mean" among them; standard deviations and images alike on the [0, 1] scale. Images
            are "mean", "sample 1" ..., "lower" and "upper", and "original" where the target is known.
        deviations: names of the layers that are standard deviations, "total" among them.
        bands: names of the C bands.
        low, high: pixel values that 0 and 1 stand for; unit: their unit.
        about: a sentence on the image and the network.
        known: (h, w) of bool: which pixels of the low resolution are not missing; None: all.
        interval: what lower and upper bound are, such as "90 % interval".
    """

    low_res: np.ndarray
    layers: Mapping[str, np.ndarray]
    deviations: Sequence[str]
    bands: Sequence[str]
    low: float = 0.0
    high: float = 1.0
    unit: str = "pixel values"
    about: str = ""
    interval: str = "interval"
    known: np.ndarray | None = None


def viewer_page(scene: ViewerScene, *, title: str) -> str:
    """The page as text.

    Images are rounded to 1/255 of the range, standard deviations to 1/255 of the largest.

    Raises:
        ValueError: the bands are neither one nor three, or a layer has another shape than the mean.
    """
    shape = scene.layers["mean"].shape
    if len(shape) != 3 or shape[0] not in (1, 3) or len(scene.bands) != shape[0]:
        raise ValueError(f"mean {shape} with bands {list(scene.bands)}: a page shows one band or three, each named.")
    odd = [name for name, layer in scene.layers.items() if layer.shape != shape]
    if odd:
        raise ValueError(f"layer {odd[0]!r} {scene.layers[odd[0]].shape} must have the shape of the mean, {shape}.")
    step = max((float(scene.layers[name].max()) for name in scene.deviations), default=0.0) / 255 or 1.0
    factors = {name: 1 / (255 * step) if name in scene.deviations else 1.0 for name in scene.layers}
    data = {
        "low_res": _png(scene.low_res),
        "layers": {name: _png(layer * factors[name]) for name, layer in scene.layers.items()},
        "deviations": list(scene.deviations),
        "deviation_step": step,
        "bands": list(scene.bands),
        "low": scene.low,
        "high": scene.high,
        "unit": scene.unit,
        "about": scene.about,
        "interval": scene.interval,
        "known": None if scene.known is None else _png(scene.known[None].astype(np.float32)),
    }
    terms = {term: TERMS[term] for term in EXPLAINED} | OWN_TERMS
    return render("viewer.html", title=title, data=data, terms=terms)


def _png(values: np.ndarray) -> str:
    """(1 or 3, H, W) in [0, 1] as the data URL of a PNG of 8 bits."""
    return png_url(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8))
