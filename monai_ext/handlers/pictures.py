"""Segmentations as pictures: in TensorBoard during training, in files at inference."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events
from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from monai_ext.data.images import read_image
from monai_ext.files import atomic_path
from monai_ext.handlers.drawing import PREDICTION_COLOUR, TRUTH_COLOUR, Picture, contour, heat_map, picture_grid
from monai_ext.settings import as_bool

__all__ = ["PredictionWriter", "SegmentationPictures"]

_logger = logging.getLogger(__name__)


class SegmentationPictures:
    """Shows the first validation images in TensorBoard, one row each, for the evaluator's handlers.

    Columns: image | truth (contour) | prediction (contour, truth beneath) | probability.

    Args:
        summary_writer: where to write.
        count: number of images, the first of the loader, so the same ones in every epoch.
        interval: epochs between two pictures.
        mean, std: undo the normalisation, per channel: shown is `image * std + mean` in [0, 1].
        tag: TensorBoard's name of the picture.
    """

    def __init__(
        self,
        summary_writer: SummaryWriter,
        *,
        count: int = 4,
        interval: int = 1,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        tag: str = "image, truth, prediction, probability",
    ):
        self.summary_writer = summary_writer
        self.count = count
        self.interval = interval
        self.mean = torch.tensor(mean).view(-1, 1, 1)
        self.std = torch.tensor(std).view(-1, 1, 1)
        self.tag = tag
        self._rows: list[list[Picture]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: self._rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._show)

    def _collect(self, engine: Engine) -> None:
        if len(self._rows) >= self.count or engine.state.epoch % self.interval:
            return
        output = engine.state.output
        wanted = self.count - len(self._rows)
        for image, label, logits in zip(*(output[key][:wanted] for key in ("image", "label", "pred")), strict=True):
            self._rows.append(self._row(image.float().cpu(), label.cpu(), logits.cpu()))

    def _row(self, image: Tensor, label: Tensor, logits: Tensor) -> list[Picture]:
        shown = _picture((image * self.std + self.mean).clamp(0, 1) * 255)
        truth, probability = label[0].numpy() > 0.5, torch.sigmoid(logits[0]).numpy()
        with_truth = contour(shown, truth, TRUTH_COLOUR)
        with_both = contour(with_truth, probability > 0.5, PREDICTION_COLOUR)
        return [shown, with_truth, with_both, heat_map(probability)]

    def _show(self, engine: Engine) -> None:
        if self._rows:
            grid = picture_grid(self._rows)
            self.summary_writer.add_image(self.tag, grid, engine.state.epoch, dataformats="HWC")


class PredictionWriter:
    """Writes each item's probability map as PNG files at the picture's own size; for evaluators that decollate.

    Files are `<folder>/masks/<id>.png` (0 or 255), `<folder>/probabilities/<id>.png` (0 to 255) and, if asked for,
    `<folder>/overlays/<id>.png` (the picture with the contour). Each appears only when complete.

    Args:
        folder: where to write.
        masks, probabilities, overlays: which kinds to write.
        threshold: foreground of masks and overlays is `probability > threshold`.
        only: ids to write; None writes all.
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
    ):
        self.folder = Path(folder)
        self.masks = as_bool(masks, "masks")
        self.probabilities = as_bool(probabilities, "probabilities")
        self.overlays = as_bool(overlays, "overlays")
        self.threshold = threshold
        self.only = None if only is None else set(only)
        self._written = 0

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._write)
        engine.add_event_handler(Events.COMPLETED, self._tell)

    def _tell(self, engine: Engine) -> None:
        _logger.info(f"wrote the predictions of {self._written} images to '{self.folder}'")

    def _write(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            if self.only is not None and item["id"] not in self.only:
                continue
            self._written += 1
            probability = output["pred"][0].float().cpu().numpy()
            mask = probability > self.threshold
            if self.masks:
                self._save("masks", item["id"], mask.astype(np.uint8) * 255)
            if self.probabilities:
                self._save("probabilities", item["id"], np.round(probability * 255).astype(np.uint8))
            if self.overlays:
                picture = _picture(read_image(item["image_path"]))
                self._save("overlays", item["id"], contour(picture, mask, PREDICTION_COLOUR))

    def _save(self, kind: str, name: str, pixels: np.ndarray) -> None:
        with atomic_path(self.folder / kind / f"{name}.png") as temporary:
            Image.fromarray(pixels).save(temporary)


def _picture(image: Tensor) -> Picture:
    """(C, H, W) in 0..255 -> uint8 (H, W, 3); one channel becomes grey."""
    pixels = image.round().byte().permute(1, 2, 0).numpy()
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
