"""Low resolution, mean, samples, original and the samples' standard deviation side by side."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from monai_ext.engines.bayesian import SAMPLES
from monai_ext.handlers.engine import Engine
from monai_ext.handlers.pictures.drawing import Picture, as_picture, heat_map, upscaled_pixels
from monai_ext.handlers.pictures.triplets import TripletPictures

__all__ = ["SamplePictures", "deviation_map"]

BRIGHTEST = 0.1  # standard deviation on the [0, 1] scale that is shown in the brightest colour


def deviation_map(deviation: Tensor) -> Picture:
    """Standard deviations (C, H, W) on the [0, 1] scale, root mean square over channels, as colours: (H, W, 3)."""
    values = deviation.detach().float().square().mean(0).sqrt().cpu().numpy()
    return heat_map(np.minimum(values / BRIGHTEST, 1))


class SamplePictures(TripletPictures):
    """Shows the first validation tiles in TensorBoard, the same ones in every epoch, one row each.

    Columns: low resolution (pixels repeated) | prediction | two samples | half their difference, 0 to 0.1 | original.
    For the handlers of a `SampledEvaluator`. Arguments as of `TripletPictures`.
    """

    TAG = "low resolution, mean, two samples, their difference, original"

    @torch.no_grad()
    def collect(self, engine: Engine, wanted: int) -> None:
        output = engine.state.output
        for i in range(min(wanted, len(output["label"]))):
            first, second = output[SAMPLES][i, 0], output[SAMPLES][i, -1]
            images = (output["pred"][i], first, second, output["label"][i])
            pictures = [as_picture(image, self.bands) for image in images]
            low = upscaled_pixels(as_picture(output["image"][i], self.bands), len(pictures[0]))
            self.add([low, *pictures[:3], deviation_map((first - second) / 2), pictures[3]])
