"""Predictions for several raters as pictures in TensorBoard and as NIfTI files in QUBIQ's naming."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_ext.data import RaterWriter, save_nifti
from monai_ext.data.raters.images import read_grey
from monai_ext.data.raters.qubiq import slice_count
from monai_ext.data.raters.structures import structure_count
from monai_ext.handlers.engine import Engine
from monai_ext.handlers.item_writer import ItemWriter
from monai_ext.handlers.pictures.drawing import Picture, as_picture, contour, heat_map
from monai_ext.handlers.pictures.rows import PictureRows
from monai_ext.metrics import rater_variance
from monai_ext.raster.nifti import is_scan
from monai_ext.runtime.settings import as_bool
from monai_ext.storage.files import inside

__all__ = ["RATER_COLOURS", "RaterPictures", "RaterPredictionWriter"]

# Okabe-Ito without black, which is not seen on dark pictures.
RATER_COLOURS = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip
MOST_VARIANCE = 0.25  # of a yes or no


class RaterPictures(PictureRows):
    """Shows the first validation cases in TensorBoard, one row each, for the handlers of a `RaterEvaluator`.

    Columns: image | contour of each rater | contour of each head, or of as many samples, in the same colours |
    disagreement of the raters, c/K (1 - c/K) | predicted uncertainty, p (1 - p); the last two on one scale, from 0
    to 1/4. Of images with two or more than three channels the first channel is shown. Several structures are rows of
    their own. Of a volume the slice is shown of which the raters marked most, and in a further column the disagreement
    of all slices, from the first at the top to the last, the largest of each column of pixels. Arguments as of
    `PictureRows`.
    """

    TAG = "image, raters, heads or samples, disagreement, uncertainty"

    def collect(self, engine: Engine, wanted: int) -> None:
        output = engine.state.output
        predictions, label = output["pred"], output["label"]
        drawn = predictions.get("heads", predictions["samples"])[:wanted] > 0.5
        images = output["image"][:wanted].float().cpu()
        parts = (drawn, predictions["probability"][:wanted, 0], label["masks"][:wanted], label["presence"][:wanted])
        several = label["masks"].ndim > images.ndim
        for image, *rest in zip(images, *(part.cpu() for part in parts), strict=True):
            drawn_of, probability, masks, presence = rest
            if not several:
                self.add(_row(image, drawn_of, probability, masks, presence))
                continue
            for k in range(masks.shape[1]):
                self.add(_row(image, drawn_of[:, k], probability[k], masks[:, k], presence[:, k]))


def _row(image: Tensor, drawn: Tensor, probability: Tensor, masks: Tensor, presence: Tensor) -> list[Picture]:
    further = []
    if image.ndim == 4:
        slices = disagreement_by_slice(masks, presence)
        side = F.interpolate(slices[None, None], image.shape[1:3], mode="nearest-exact")[0, 0]
        further = [heat_map((side / MOST_VARIANCE).numpy())]
        place = marked_slice(masks)
        image, drawn, probability, masks = (maps[..., place] for maps in (image, drawn, probability, masks))
    shown = _picture(image if len(image) == 3 else image[:1])
    present = presence != 0
    disagreement = rater_variance((masks > 0.5)[None], presence=present[None])[0].nan_to_num()
    uncertainty = probability * (1 - probability)
    return [
        shown,
        _outlined(shown, masks > 0.5, [r for r in range(len(masks)) if present[r]]),
        _outlined(shown, drawn, range(min(len(drawn), len(masks)))),
        *(heat_map((values / MOST_VARIANCE).numpy()) for values in (disagreement, uncertainty)),
        *further,
    ]


def marked_slice(masks: Tensor) -> int:
    """The slice of (R, H, W, D) of which the raters marked most; the middle one where they marked nothing."""
    counts = (masks > 0.5).sum((0, 1, 2))
    return int(counts.argmax()) if counts.any() else masks.shape[3] // 2


def disagreement_by_slice(masks: Tensor, presence: Tensor) -> Tensor:
    """c/K (1 - c/K) of masks (R, H, W, D), the largest of each column of pixels, (D, W)."""
    return rater_variance((masks > 0.5)[None], presence=(presence != 0)[None])[0].nan_to_num().amax(0).mT


def _picture(image: Tensor) -> Picture:
    """(C, H, W) -> uint8 (H, W, 3), stretched to its own range."""
    low, high = image.aminmax()
    return as_picture((image - low) / (high - low).clamp(min=1e-6))


def _outlined(picture: Picture, masks: Tensor, places: Sequence[int]) -> Picture:
    for place in places:
        if masks.shape[1:] == picture.shape[:2]:
            picture = contour(picture, masks[place].numpy(), RATER_COLOURS[place % len(RATER_COLOURS)])
    return picture


class RaterPredictionWriter(ItemWriter):
    """Writes the predictions for each case as NIfTI, for the handlers of a `RaterEvaluator`; see `RaterWriter`.

    `<folder>/<case>/task01_seg01.nii.gz` and so on are the masks of the heads, `task01_sample01.nii.gz` samples,
    `task01.nii.gz` the predicted share of raters, all in the geometry of the case's image, for each of several tasks
    under its number. Slices become one volume once all of a case have been predicted; where some are left out, each has
    a folder `<case>_z<index>`. Beside those of a photograph (PNG, JPEG, ...), which has no geometry, lies its grey
    picture as `image.nii.gz`.

    Args:
        folder: where to write.
        items: of the cases; batches name them by id.
        raters: numbers of the raters, in the order of the heads.
        masks: write the masks of the heads, of methods that have heads.
        samples: write the masks of the samples.
        probability: write the predicted share.
        only: ids to write; None writes all.
        channel_axis: see `DecodeRaters`.

    Raises (when called):
        ValueError: the name of a case leads out of the folder.
    """

    def __init__(
        self,
        folder: str | Path,
        items: Sequence[Mapping],
        *,
        raters: Sequence[int] | None = None,
        masks: bool | str = True,
        samples: bool | str = False,
        probability: bool | str = True,
        only: Sequence[str] | None = None,
        channel_axis: int | None = None,
    ):
        super().__init__(folder, what="the predictions of {} cases")
        self.writer = RaterWriter(folder, channel_axis=channel_axis)
        self.items = {str(item["id"]): item for item in items}
        self.raters = None if raters is None else [int(number) for number in raters]
        self.masks = as_bool(masks, "masks")
        self.samples = as_bool(samples, "samples")
        self.probability = as_bool(probability, "probability")
        self.only = None if only is None else set(map(str, only))
        chosen = (item for name, item in self.items.items() if self.only is None or name in self.only)
        self._counts = Counter(str(item["case"]) for item in chosen if "slice" in item)
        self._slices: dict[tuple[str, int], dict[int, tuple[Mapping, dict[str, Tensor]]]] = {}

    def write(self, engine: Engine) -> None:
        predictions: dict[str, Any] = {name: maps.cpu() for name, maps in engine.state.output["pred"].items()}
        for place, name in enumerate(engine.state.batch["id"]):
            if self.only is not None and name not in self.only:
                continue
            item = self._with_geometry(self.items[name])
            for key in ("roi", "affine"):
                if key in engine.state.batch:
                    item = {**item, key: engine.state.batch[key][place].tolist()}
            own = {key: maps[place] for key, maps in predictions.items()}
            if "structures" not in item:
                self._write_maps(item, own)
            for k in range(structure_count(item) if "structures" in item else 0):
                number = item["tasks"][k] if "tasks" in item else k + 1
                self._write_maps({**item, "task": number}, {key: maps[:, k] for key, maps in own.items()})
            self.written += 1

    def _write_maps(self, item: Mapping, maps: Mapping[str, Tensor]) -> None:
        """The files of one item and structure, or of the whole case with the last of its slices."""
        place = (str(item["case"]), int(item.get("task", 1)))
        wanted = {"heads": self.masks, "samples": self.samples, "probability": self.probability}
        kept = {key: values for key, values in maps.items() if wanted[key]}
        if "slice" in item and kept and self._counts[str(item["case"])] == slice_count(item):
            held = self._slices.setdefault(place, {})
            held[item["slice"]] = item, {key: values.clone() for key, values in kept.items()}
            if len(held) < slice_count(item):
                return
            items, maps_of = zip(*(held[index] for index in sorted(held)), strict=True)
            del self._slices[place]
            item = {key: value for key, value in item.items() if key not in ("slice", "roi")}
            kept = {
                key: self.writer.join_slices(items, [own[key] for own in maps_of], masks=key != "probability")
                for key in kept
            }
        if "heads" in kept:
            self.writer.write_masks(item, kept["heads"], raters=self.raters)
        if "samples" in kept:
            self.writer.write_samples(item, kept["samples"])
        if "probability" in kept:
            self.writer.write_probability(item, kept["probability"])

    def _with_geometry(self, item: Mapping) -> Mapping:
        """`item` with an image that RaterWriter can take the geometry from."""
        if is_scan(item["image"]):
            return item
        path = inside(self.folder, str(item["case"])) / "image.nii.gz"
        grey = read_grey(item["image"])[0].to(torch.uint8).numpy()
        save_nifti(nib.Nifti1Image(grey, np.eye(4)), path)
        return {**item, "image": str(path)}
