"""Rows of pictures of the first validation items, shown in TensorBoard after each epoch."""

from __future__ import annotations

from collections.abc import Sequence

from ignite.engine import Events
from torch.utils.tensorboard import SummaryWriter

from monai_ext.handlers.engine import Engine
from monai_ext.handlers.pictures.drawing import Picture, picture_grid
from monai_ext.handlers.training.tensorboard import step_of, writer_of

__all__ = ["PictureRows"]


class PictureRows:
    """Shows the first validation items in TensorBoard, the same ones in every epoch, one row each.

    A subclass names its columns in `TAG` and adds the rows of a batch in `collect`; for the evaluator's handlers.

    Args:
        summary_writer: where to write; None: that of the run, see `StandardTraining`.
        count: number of items, the first of the loader.
        interval: epochs between two pictures.
    """

    TAG = "pictures"
    LEAST = 192  # pixels of a picture's shorter side, as it is shown

    def __init__(self, summary_writer: SummaryWriter | None = None, *, count: int = 4, interval: int = 1):
        self.summary_writer, self.count, self.interval = summary_writer, count, interval
        self._rows: list[list[Picture]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: self._rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._show)

    def collect(self, engine: Engine, wanted: int) -> None:
        """Hand the rows of up to `wanted` items of the batch to `add`."""
        raise NotImplementedError

    def add(self, row: Sequence[Picture]) -> None:
        """Add a row, unless its pictures are of another size than those before, which fit no common grid."""
        if not self._rows or row[0].shape == self._rows[0][0].shape:
            self._rows.append(list(row))

    def _collect(self, engine: Engine) -> None:
        wanted = self.count - len(self._rows)
        if wanted > 0 and engine.state.epoch % self.interval == 0:
            self.collect(engine, wanted)

    def _show(self, engine: Engine) -> None:
        writer = writer_of(engine, self.summary_writer)
        if self._rows and writer is not None:
            pictures = picture_grid(self._rows, least=self.LEAST)
            writer.add_image(self.TAG, pictures, step_of(engine), dataformats="HWC")
