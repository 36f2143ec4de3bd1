"""Segmentations as pictures: in TensorBoard during training, in files at inference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from monai_ext.handlers.engine import Engine
from monai_ext.handlers.item_writer import ItemWriter
from monai_ext.handlers.pictures.drawing import PREDICTION_COLOUR, TRUTH_COLOUR, Picture, as_picture, contour, heat_map
from monai_ext.handlers.pictures.rows import PictureRows
from monai_ext.raster.images import read_image
from monai_ext.raster.labels import Labels, label_map, structures_of_labels
from monai_ext.runtime.settings import as_bool
from monai_ext.storage.files import atomic_path, inside
from monai_ext.storage.pictures import save_picture

__all__ = ["PredictionWriter", "SegmentationPictures"]

FURTHER_COLOURS = ((86, 180, 233), (204, 121, 167), (240, 228, 66))  # of structures after the first; Okabe-Ito


class SegmentationPictures(PictureRows):
    """Shows the first validation images in TensorBoard, one row each, for the evaluator's handlers.

    Columns: image | truth (contour) | prediction (contour, truth beneath) | probability. Several structures are rows of
    their own.

    Args:
        summary_writer: where to write; None: that of the run.
        mean, std: undo the normalisation, per channel: shown is `image * std + mean` in [0, 1].
        kwargs: count and interval, see `PictureRows`.
    """

    TAG = "image, truth, prediction, probability"

    def __init__(
        self,
        summary_writer: SummaryWriter | None = None,
        *,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        **kwargs: Any,
    ):
        super().__init__(summary_writer, **kwargs)
        self.mean = torch.tensor(mean).view(-1, 1, 1)
        self.std = torch.tensor(std).view(-1, 1, 1)

    def collect(self, engine: Engine, wanted: int) -> None:
        output = engine.state.output
        for image, label, logits in zip(*(output[key][:wanted] for key in ("image", "label", "pred")), strict=True):
            for own_label, own_logits in zip(label.cpu(), logits.cpu(), strict=True):
                self.add(self._row(image.float().cpu(), own_label, own_logits))

    def _row(self, image: Tensor, label: Tensor, logits: Tensor) -> list[Picture]:
        """Of one structure, (H, W)."""
        shown = as_picture(image * self.std + self.mean)
        truth, probability = label.numpy() > 0.5, torch.sigmoid(logits).numpy()
        with_truth = contour(shown, truth, TRUTH_COLOUR)
        with_both = contour(with_truth, probability > 0.5, PREDICTION_COLOUR)
        return [shown, with_truth, with_both, heat_map(probability)]


class PredictionWriter(ItemWriter):
    """Writes each item's probability map as PNG files at the picture's own size; for evaluators that decollate.

    Files are `<folder>/masks/<id>.png` (0 or 255), `<folder>/probabilities/<id>.png` (0 to 255) and optionally
    `<folder>/overlays/<id>.png` (the picture with the contour). Of structures by name the first two lie in a folder for
    each, `<folder>/masks/<structure>/<id>.png`, and `<folder>/labels/<id>.png` has all masks as one map of their
    values, see `label_map`. Each appears only when complete.

    Args:
        folder: where to write.
        masks, probabilities, overlays: which kinds to write.
        threshold: foreground of masks and overlays is `probability > threshold`.
        only: ids to write; None writes all.
        key: of the probability map in the output.
        labels: of the masks, where these are structures by name, see `read_mask`.

    Raises (when called):
        ValueError: an id leads out of the folder.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        masks: bool | str = True,
        probabilities: bool | str = True,
        overlays: bool | str = False,
        threshold: float = 0.5,
        only: Sequence[str] | None = None,
        key: str = "pred",
        labels: Labels = None,
    ):
        super().__init__(folder, what="the predictions of {} images")
        self.key = key
        self.labels, self.structures = labels, structures_of_labels(labels)
        self.masks = as_bool(masks, "masks")
        self.probabilities = as_bool(probabilities, "probabilities")
        self.overlays = as_bool(overlays, "overlays")
        self.threshold = threshold
        self.only = None if only is None else set(only)

    def write(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            if self.only is not None and item["id"] not in self.only:
                continue
            self.written += 1
            probabilities = output[self.key].float().cpu().numpy()  # (K, H, W)
            masks = probabilities > self.threshold
            for folder, mask, probability in zip(self.structures or [""], masks, probabilities, strict=True):
                if self.masks:
                    self._save(f"masks/{folder}", item["id"], mask.astype(np.uint8) * 255)
                if self.probabilities:
                    self._save(f"probabilities/{folder}", item["id"], np.round(probability * 255).astype(np.uint8))
            if self.masks and self.structures:
                self._save("labels", item["id"], label_map(masks, self.labels))
            if self.overlays:
                picture = as_picture(read_image(item["image_path"]) / 255)
                for place, mask in enumerate(masks):
                    picture = contour(picture, mask, (PREDICTION_COLOUR, *FURTHER_COLOURS)[place % 4])
                self._save("overlays", item["id"], picture)

    def _save(self, kind: str, name: str, pixels: np.ndarray) -> None:
        with atomic_path(inside(self.folder / kind, f"{name}.png")) as temporary:
            save_picture(Image.fromarray(pixels), temporary)
