"""Low resolution, mean, samples and original side by side, with what they differ by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from monai_ext.engines.bayesian import SAMPLES
from monai_ext.handlers.drawing import Picture, heat_map, picture_grid
from monai_ext.handlers.triplets import as_picture, enlarged_pixels

__all__ = ["SamplePictures", "deviation_map"]

BRIGHTEST = 0.1  # standard deviation on the [0, 1] scale that is shown in the brightest colour


def deviation_map(deviation: Tensor, *, brightest: float = BRIGHTEST) -> Picture:
    """Standard deviations (C, H, W) on the [0, 1] scale, root mean square over channels, as colours: (H, W, 3)."""
    values = deviation.detach().float().square().mean(0).sqrt().cpu().numpy()
    return heat_map(np.minimum(values / brightest, 1))


class SamplePictures:
    """Shows the first validation tiles in TensorBoard, the same ones in every epoch, one row each.

    Columns: low resolution (pixels repeated) | prediction | two samples | half their difference, 0 to 0.1 | original.
    For the handlers of a `SampledEvaluator`.

    Args:
        summary_writer: where to write.
        count: number of tiles, the first of the loader.
        bands: channels shown as red, green and blue.
        tag: TensorBoard's name of the picture.
    """

    def __init__(
        self,
        summary_writer: SummaryWriter,
        *,
        count: int = 4,
        bands: Sequence[int] = (0, 1, 2),
        tag: str = "low resolution, mean, two samples, their difference, original",
    ):
        self.summary_writer = summary_writer
        self.count, self.bands, self.tag = count, tuple(bands), tag
        self._rows: list[list[Picture]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: self._rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._show)

    @torch.no_grad()
    def _collect(self, engine: Engine) -> None:
        output = engine.state.output
        for i in range(min(self.count - len(self._rows), len(output["label"]))):
            first, second = output[SAMPLES][i, 0], output[SAMPLES][i, -1]
            images = (output["pred"][i], first, second, output["label"][i])
            pictures = [as_picture(image, self.bands) for image in images]
            low = enlarged_pixels(as_picture(output["image"][i], self.bands), len(pictures[0]))
            row = [low, *pictures[:3], deviation_map((first - second) / 2), pictures[3]]
            if not self._rows or row[0].shape == self._rows[0][0].shape:  # tiles of another size fit no common grid
                self._rows.append(row)

    def _show(self, engine: Engine) -> None:
        if self._rows:
            self.summary_writer.add_image(self.tag, picture_grid(self._rows), engine.state.epoch, dataformats="HWC")
