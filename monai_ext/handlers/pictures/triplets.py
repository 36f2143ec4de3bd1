"""Low resolution, prediction and original side by side: in TensorBoard during training, in a figure afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

from monai_ext.handlers.engine import Engine
from monai_ext.handlers.pictures.drawing import Picture, as_picture, upscaled_pixels
from monai_ext.handlers.pictures.rows import PictureRows
from monai_ext.storage.pictures import save_figure

__all__ = ["TripletPictures", "TripletRow", "save_triplets"]


class TripletPictures(PictureRows):
    """Shows the first validation tiles in TensorBoard, the same ones in every epoch, one row each.

    Columns: low resolution (pixels repeated) | prediction | original. For the evaluator's handlers.

    Args:
        summary_writer: where to write; None: that of the run.
        bands: channels shown as red, green and blue.
        kwargs: count and interval, see `PictureRows`.
    """

    TAG = "low resolution, prediction, original"

    def __init__(self, summary_writer: SummaryWriter | None = None, *, bands: Sequence[int] = (0, 1, 2), **kwargs: Any):
        super().__init__(summary_writer, **kwargs)
        self.bands = tuple(bands)

    def collect(self, engine: Engine, wanted: int) -> None:
        images = (engine.state.output[key][:wanted] for key in ("image", "pred", "label"))
        for triplet in zip(*images, strict=True):
            low, *rest = (as_picture(image, self.bands) for image in triplet)
            self.add([upscaled_pixels(low, len(rest[0])), *rest])


@dataclass(frozen=True)
class TripletRow:
    """One tile of a figure: its name, and pictures of one height with a line of text each, by column."""

    title: str
    pictures: Mapping[str, Picture]
    captions: Mapping[str, str]


def save_triplets(rows: Sequence[TripletRow], path: str | Path) -> None:
    """Save a grid of tiles (rows) and versions of them (columns), captions beneath, without interpolation, as PNG.

    Raises:
        ValueError: no row.
    """
    if not rows:
        raise ValueError("no tile to show: give at least one row.")
    columns = list(rows[0].pictures)
    figure = Figure(figsize=(2.4 * len(columns), 2.7 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for row, line in zip(rows, axes, strict=True):
        for name, axis in zip(columns, line, strict=True):
            axis.imshow(row.pictures[name], interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.set_xlabel(row.captions.get(name, ""), fontsize=8)
            if row is rows[0]:
                axis.set_title(name, fontsize=10)
        line[0].set_ylabel(row.title, fontsize=7)
    save_figure(figure, Path(path), dpi=160)
