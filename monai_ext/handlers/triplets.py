"""Low resolution, enlarged, original, side by side: in TensorBoard during training, in a figure afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from monai_ext.files import atomic_path
from monai_ext.handlers.drawing import Picture, picture_grid

__all__ = ["TripletPictures", "TripletRow", "as_picture", "enlarged_pixels", "save_triplets", "triplet_figure"]


def as_picture(image: Tensor, bands: Sequence[int] = (0, 1, 2)) -> Picture:
    """(C, H, W) in [0, 1] -> uint8 (H, W, 3); the channels `bands` are red, green and blue, fewer than three grey."""
    image = image[list(bands)] if len(image) > max(bands) else image[:1]
    pixels = (image.detach().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def enlarged_pixels(picture: Picture, height: int) -> Picture:
    """`picture` with every pixel repeated so that it is `height` high, for showing a low resolution as it is."""
    factor = height // picture.shape[0]
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


class TripletPictures:
    """Shows the first validation tiles in TensorBoard, the same ones in every epoch, one row each.

    Columns: low resolution (pixels repeated) | prediction | original. For the evaluator's handlers.

    Args:
        summary_writer: where to write.
        count: number of tiles, the first of the loader.
        interval: epochs between two pictures.
        bands: channels shown as red, green and blue.
        tag: TensorBoard's name of the picture.
    """

    def __init__(
        self,
        summary_writer: SummaryWriter,
        *,
        count: int = 4,
        interval: int = 1,
        bands: Sequence[int] = (0, 1, 2),
        tag: str = "low resolution, prediction, original",
    ):
        self.summary_writer = summary_writer
        self.count, self.interval, self.bands, self.tag = count, interval, tuple(bands), tag
        self._rows: list[list[Picture]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: self._rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._show)

    def _collect(self, engine: Engine) -> None:
        wanted = self.count - len(self._rows)
        if wanted <= 0 or engine.state.epoch % self.interval:
            return
        images = (engine.state.output[key][:wanted] for key in ("image", "pred", "label"))
        for triplet in zip(*images, strict=True):
            low, *rest = (as_picture(image, self.bands) for image in triplet)
            row = [enlarged_pixels(low, len(rest[0])), *rest]
            if not self._rows or row[0].shape == self._rows[0][0].shape:  # tiles of another size fit no common grid
                self._rows.append(row)

    def _show(self, engine: Engine) -> None:
        if self._rows:
            self.summary_writer.add_image(self.tag, picture_grid(self._rows), engine.state.epoch, dataformats="HWC")


@dataclass(frozen=True)
class TripletRow:
    """One tile of a figure: its name, and pictures of one height with a line of text each, by column."""

    title: str
    pictures: Mapping[str, Picture]
    captions: Mapping[str, str]


def triplet_figure(rows: Sequence[TripletRow], *, inches: float = 2.4) -> Figure:
    """A grid of tiles (rows) and versions of them (columns), captions beneath; no interpolation.

    Raises:
        ValueError: no row.
    """
    if not rows:
        raise ValueError("no tile to show: give at least one row.")
    columns = list(rows[0].pictures)
    figure = Figure(figsize=(inches * len(columns), (inches + 0.3) * len(rows)), layout="constrained", dpi=160)
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for row, line in zip(rows, axes, strict=True):
        for name, axis in zip(columns, line, strict=True):
            axis.imshow(row.pictures[name], interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_xlabel(row.captions.get(name, ""), fontsize=8)
            if row is rows[0]:
                axis.set_title(name, fontsize=10)
        line[0].set_ylabel(row.title, fontsize=7)
    return figure


def save_triplets(rows: Sequence[TripletRow], path: str | Path) -> Path:
    """`triplet_figure` as a PNG file, written at once or not at all."""
    with atomic_path(path) as temporary:
        triplet_figure(rows).savefig(temporary)
    return Path(path)
