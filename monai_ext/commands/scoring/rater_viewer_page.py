"""One HTML file of cases with several raters: outlines, samples, disagreement beside uncertainty.

Masks are stored as bits of grey PNGs, eight in a picture, the slices of a volume side by side; nothing is fetched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.util import montage

from monai_ext.commands.rendering import png_url, render
from monai_ext.commands.terms import ENERGY_DISTANCE, TERMS

__all__ = ["RaterScene", "rater_viewer_page"]

OWN_TERMS = {
    "disagreement": "variance of the raters' yes and no, s(1 − s): 0 where all agree, 0.25 where half of them marked",
    "uncertainty": "variance of the prediction, p(1 − p), p being the probability or the share of samples or heads",
}
EXPLAINED = ("share of raters", "Dice", "Jaccard, IoU", "sample", "head", "Hungarian IoU", ENERGY_DISTANCE)


@dataclass(frozen=True)
class RaterScene:
    """A case as the page shows it; all arrays are (H, W, D), of pictures D is 1.

    Attributes:
        image: (1 or 3, H, W, D) uint8.
        masks: by the names of the raters who marked the case.
        sets: predicted masks by name, such as "sample 3" or "head 2".
        probability: predicted share of raters, in [0, 1].
        slices: numbers of the D slices in the volume of `depth` slices.
        facts: a line on the case.
        scores: "dice", of the prediction with the raters, and "agreement", of the raters with each other, by which the
            cases can be sorted.
    """

    name: str
    image: NDArray[np.uint8]
    masks: Mapping[str, NDArray]
    sets: Mapping[str, NDArray] = field(default_factory=dict)
    probability: NDArray | None = None
    slices: Sequence[int] = (0,)
    depth: int = 1
    facts: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)


def rater_viewer_page(scenes: Sequence[RaterScene], *, title: str, about: str = "") -> str:
    """The page as text. All scenes have the same kinds of predictions, or none.

    Raises:
        ValueError: there are no scenes.
    """
    if not scenes:
        raise ValueError("a page needs at least one case.")
    first = scenes[0]
    kind = next(iter(first.sets), "").partition(" ")[0]
    data = {
        "about": about,
        "cases": [_case(scene) for scene in scenes],
        "raters": list(dict.fromkeys(name for scene in scenes for name in scene.masks)),
        "set": f"{kind}s" if kind else "",
        "mean": f"Share of {kind}s" if first.probability is None else "Probability",
    }
    return render(
        "rater_viewer.html", title=title, data=data, terms=OWN_TERMS | {term: TERMS[term] for term in EXPLAINED}
    )


def _case(scene: RaterScene) -> dict[str, Any]:
    height, width, count = scene.image.shape[1:]
    across = math.isqrt(count - 1) + 1
    masks = np.stack([mask != 0 for mask in (*scene.masks.values(), *scene.sets.values())])
    planes = np.packbits(masks, axis=0, bitorder="little")
    levels = None if scene.probability is None else np.rint(255 * scene.probability).astype(np.uint8)[None]
    votes = masks[: len(scene.masks)].sum(0)
    return {
        "name": scene.name,
        "width": width,
        "height": height,
        "across": across,
        "slices": list(scene.slices),
        "depth": scene.depth,
        "middle": int((votes * (len(scene.masks) - votes) + 1e-3 * votes).sum((0, 1)).argmax()),
        "raters": list(scene.masks),
        "sets": list(scene.sets),
        "prediction": bool(scene.sets) or scene.probability is not None,
        "image": png_url(_side_by_side(scene.image, across)),
        "planes": [png_url(_side_by_side(plane[None], across)) for plane in planes],
        "probability": None if levels is None else png_url(_side_by_side(levels, across)),
        "facts": scene.facts,
        **{name: value for name, value in scene.scores.items() if math.isfinite(value)},
    }


def _side_by_side(values: NDArray[np.uint8], across: int) -> NDArray[np.uint8]:
    """(C, H, W, D) as one picture, `across` slices in a row."""
    channels, _, _, count = values.shape
    slices = values.transpose(3, 1, 2, 0)
    picture = montage(slices, fill=[0] * channels, grid_shape=(-(-count // across), across), channel_axis=-1)
    return np.moveaxis(picture, -1, 0)
