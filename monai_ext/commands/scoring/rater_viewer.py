"""`rater_viewer`: a page of cases with several raters, and of their predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_ext.commands.command_line import Computed, Positional
from monai_ext.commands.scoring.rater_choice import RaterChoice
from monai_ext.commands.scoring.rater_viewer_page import RaterScene, rater_viewer_page
from monai_ext.data.raters.cases import RaterCase, read_rater_case
from monai_ext.data.raters.images import case_image
from monai_ext.data.raters.predictions import PredictionKinds, RaterPredictions, rater_predictions
from monai_ext.metrics import generalized_energy_distance, hungarian_iou, pairwise_dice
from monai_ext.runtime.errors import some_of
from monai_ext.runtime.run_log import progress, tell
from monai_ext.storage.files import write_text

__all__ = ["RaterViewerOptions", "rater_scene", "run", "write_rater_viewer"]

LONGEST = 1024  # pixels of a side, above which pictures are reduced
MARGIN = 2  # slices beyond those that anybody marked
MARKED = 0.05  # predicted probability of a slice that is shown
CONTRAST = (0.5, 99.5)  # percentiles of the image that are black and white


class _Listed(NamedTuple):
    """A case of a task, and its prediction where there is one."""

    item: Mapping
    found: RaterPredictions | None


@dataclass(frozen=True)
class RaterViewerFolders:
    """A data set, its predictions, and the page."""

    data: Positional[Path]
    """the data set: <region>/<part>/<case>/task01_seg01.nii.gz, ..."""
    page: Positional[Path]
    """the page to write, such as page.html"""
    predictions: Computed[Path | None] = None
    """folder of predictions as `score` reads it (none: the raters alone)"""


@dataclass(frozen=True)
class RaterViewerOptions(RaterChoice, RaterViewerFolders):
    """Write a page of cases: each rater, each sample or head, shares, disagreement beside uncertainty.

    One HTML file that needs no server and fetches nothing. Volumes have a slider over the slices that anybody marked.
    """

    cases: Computed[tuple[str, ...]] = ()
    """names of the cases to show (all)"""
    most: int = 40
    """cases of a page at most, the first ones of the data set"""
    samples: Computed[int | None] = None
    """how many samples of each case to take (all)"""

    def __post_init__(self) -> None:
        if self.page.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"page '{self.page}': give it a name that ends in .html, so that browsers show it.")
        if self.most < 1:
            raise ValueError(f"most is {self.most}: a page shows at least one case.")


def run(options: RaterViewerOptions) -> int:
    """`python -m monai_ext rater_viewer`."""
    listed = _listed(options)
    scenes = [
        rater_scene(entry.item, entry.found)
        for entry in progress(listed[: options.most], "rater_viewer", "case", total=min(len(listed), options.most))
    ]
    if left_out := listed[options.most :]:
        names = some_of([str(entry.item["id"]) for entry in left_out])
        tell(f"not on the page: {names} (choose by --cases, or raise --most).")
    what = "the raters' masks" if options.predictions is None else f"the raters' masks and {options.predictions.name}"
    name = options.data.resolve().name
    count = "One case" if len(scenes) == 1 else f"{len(scenes)} cases"
    about = f"{count} of {name}: {what}."
    write_rater_viewer(options.page, scenes, title=f"Raters of {name}", about=about)
    tell(f"the page: {options.page}, {options.page.stat().st_size / 1e6:.1f} MB")
    return 0


def write_rater_viewer(path: str | Path, scenes: Sequence[RaterScene], *, title: str, about: str = "") -> Path:
    """Write the page of `scenes` to `path`, at once or not at all."""
    write_text(path, rater_viewer_page(scenes, title=title, about=about))
    return Path(path)


def _listed(options: RaterViewerOptions) -> list[_Listed]:
    """The chosen cases of all tasks; of those with predictions only, if there are any."""
    listed: list[_Listed] = []
    names: set[str] = set()
    for items in options.items(options.data).values():
        marked = [item for item in items if any(item["label"])]
        names |= {str(item["case"]) for item in marked}
        chosen = [item for item in marked if not options.cases or item["case"] in options.cases]
        if not chosen:
            continue
        found = None
        if options.predictions is not None:
            found = rater_predictions(
                options.predictions, chosen, region=options.region, part=options.part, samples=options.samples
            )
            for reason in found.missing.values():
                tell(f"left out: {reason}")
            chosen = [item for item in chosen if item["id"] in found.files]
        listed += [_Listed(item, found) for item in chosen]
    if unknown := [name for name in options.cases if name not in names]:
        raise ValueError(f"no case {unknown[0]!r} with masks in {options.data}: there are {some_of(sorted(names))}.")
    return listed


def rater_scene(item: Mapping, found: RaterPredictions | None = None) -> RaterScene:
    """What the page shows of an item of `rater_truth`, with its entry of `found`.

    Raises:
        ImageFileError: see `read_rater_case`.
    """
    kinds = PredictionKinds() if found is None else found.kinds
    case = read_rater_case(item, None if found is None else found.files[item["id"]], kinds)
    word = "mask" if item["anonymous"] else "rater"
    present = [
        (number, mask) for number, mask, here in zip(item["raters"], case.masks, case.presence, strict=True) if here
    ]
    masks = {f"{word} {number}": _volume(mask) for number, mask in present}
    chosen, numbers, kind = case.samples, kinds.samples, "sample"
    if chosen is None:
        chosen, numbers, kind = case.heads, kinds.raters, "head"
    sets = {} if chosen is None else {f"{kind} {n}": _volume(m) for n, m in zip(numbers, chosen, strict=True)}
    probability = None if case.probability is None else _volume(case.probability)
    image = case_image(item, tuple(case.masks.shape[1:]))
    image = _levels(image.reshape(*image.shape[:3], -1))
    marked = np.any(
        [*masks.values(), *sets.values(), *([] if probability is None else [probability >= MARKED])], axis=0
    )
    slices = _slices(marked)
    step = -(-max(marked.shape[:2]) // LONGEST)
    scores, sentence = _scores(case)
    facts = [f"{item['id']}: {' x '.join(map(str, case.masks.shape[1:]))} pixels.", sentence]
    if step > 1:
        facts.append(f"Shown at 1/{step} of its size.")
    if len(slices) < marked.shape[2]:
        facts.append(f"Slices {slices[0] + 1} to {slices[-1] + 1} are shown: nobody marked the others.")

    def shown(values: NDArray) -> NDArray:
        return values[step // 2 :: step, step // 2 :: step, slices]

    return RaterScene(
        name=str(item["id"]),
        image=np.stack([shown(channel) for channel in image]),
        masks={name: shown(mask) for name, mask in masks.items()},
        sets={name: shown(mask) for name, mask in sets.items()},
        probability=None if probability is None else shown(probability),
        slices=slices,
        depth=marked.shape[2],
        facts=" ".join(filter(None, facts)),
        scores=scores,
    )


def _volume(values: Tensor) -> NDArray:
    """(H, W, D), D being 1 for a picture."""
    return (values if values.ndim == 3 else values[..., None]).numpy()


def _levels(image: NDArray) -> NDArray[np.uint8]:
    """(1 or 3, H, W, D) uint8 between two percentiles of the image; other channels are averaged."""
    channels = image if len(image) in (1, 3) else image.mean(0, keepdims=True)
    values = np.nan_to_num(channels)
    low, high = np.percentile(values, CONTRAST)
    return np.rint(np.clip((values - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)


def _slices(marked: NDArray[np.bool_]) -> list[int]:
    """Of the third axis: those that anybody marked, all between them, and a margin."""
    places = np.flatnonzero(marked.any((0, 1)))
    if not len(places):
        return list(range(marked.shape[2]))
    return list(range(max(0, int(places[0]) - MARGIN), min(marked.shape[2], int(places[-1]) + MARGIN + 1)))


def _scores(case: RaterCase) -> tuple[dict[str, float], str]:
    """Scores of a case by name, and a sentence of them, empty where there are none."""
    masks = case.masks[case.presence][None]
    scores, parts = {}, []
    if masks.shape[1] > 1:
        first, second = torch.triu_indices(masks.shape[1], masks.shape[1], offset=1)
        scores["agreement"] = float(pairwise_dice(masks, masks)[0, first, second].mean())
        parts.append(f"Dice of raters with each other {scores['agreement']:.2f}")
    samples = case.heads if case.samples is None else case.samples
    mean = samples.float().mean(0) if case.probability is None and samples is not None else case.probability
    if mean is not None:
        hard = (mean >= 0.5).to(masks.dtype)[None, None]
        scores["dice"] = float(pairwise_dice(hard, masks).mean())
        parts.append(f"Dice of the prediction with the raters {scores['dice']:.2f}")
    if samples is not None and len(samples) > 1:
        energy, matched = (float(score(samples[None], masks)) for score in (generalized_energy_distance, hungarian_iou))
        parts += [f"energy distance squared {energy:.3f}", f"Hungarian IoU {matched:.2f}"]
    sentence = f"{'; '.join(parts)}." if parts else ""
    return {name: value for name, value in scores.items() if not math.isnan(value)}, sentence
