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
from monai_ext.runtime.settings import as_bool
from monai_ext.storage.files import atomic_path, inside
from monai_ext.storage.pictures import save_picture

__all__ = ["PredictionWriter", "SegmentationPictures"]


class SegmentationPictures(PictureRows):
    """Shows the first validation images in TensorBoard, one row each, for the evaluator's handlers.

    Columns: image | truth (contour) | prediction (contour, truth beneath) | probability.

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
            self.add(self._row(image.float().cpu(), label.cpu(), logits.cpu()))

    def _row(self, image: Tensor, label: Tensor, logits: Tensor) -> list[Picture]:
        shown = as_picture(image * self.std + self.mean)
        truth, probability = label[0].numpy() > 0.5, torch.sigmoid(logits[0]).numpy()
        with_truth = contour(shown, truth, TRUTH_COLOUR)
        with_both = contour(with_truth, probability > 0.5, PREDICTION_COLOUR)
        return [shown, with_truth, with_both, heat_map(probability)]


class PredictionWriter(ItemWriter):
    """Writes each item's probability map as PNG files at the picture's own size; for evaluators that decollate.

    Files are `<folder>/masks/<id>.png` (0 or 255), `<folder>/probabilities/<id>.png` (0 to 255) and optionally
    `<folder>/overlays/<id>.png` (the picture with the contour). Each appears only when complete.

    Args:
        folder: where to write.
        masks, probabilities, overlays: which kinds to write.
        threshold: foreground of masks and overlays is `probability > threshold`.
        only: ids to write; None writes all.
        key: of the probability map in the output.

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
    ):
        super().__init__(folder, what="the predictions of {} images")
        self.key = key
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
            probability = output[self.key][0].float().cpu().numpy()
            mask = probability > self.threshold
            if self.masks:
                self._save("masks", item["id"], mask.astype(np.uint8) * 255)
            if self.probabilities:
                self._save("probabilities", item["id"], np.round(probability * 255).astype(np.uint8))
            if self.overlays:
                picture = as_picture(read_image(item["image_path"]) / 255)
                self._save("overlays", item["id"], contour(picture, mask, PREDICTION_COLOUR))

    def _save(self, kind: str, name: str, pixels: np.ndarray) -> None:
        with atomic_path(inside(self.folder / kind, f"{name}.png")) as temporary:
            save_picture(Image.fromarray(pixels), temporary)
