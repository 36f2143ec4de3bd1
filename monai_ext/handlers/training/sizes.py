"""Progressive resizing: early epochs at a fraction of the image size."""

from __future__ import annotations

from collections.abc import Sequence

from ignite.engine import Events

from monai_ext.handlers.engine import Engine
from monai_ext.transforms.batch import BatchAugment

__all__ = ["ProgressiveSize"]


class ProgressiveSize:
    """Sets the output size of batch transforms by the epoch (progressive resizing; Howard 2018, fast.ai on DAWNBench).

    An epoch at half the size costs a quarter. Change size while the learning rate is still high: features and BatchNorm
    statistics must adapt, and a long moving average mixes weights for both sizes. Scores of epochs at different sizes
    are not comparable: validation images and labels are resized as well, labels to the nearest pixel, which at half the
    size shifts them by a quarter of a pixel. The size depends on the epoch alone, so a resumed run sees the same ones.
    List it before `ValidationHandler`.

    Args:
        transforms: the transforms of training and validation batches.
        spatial_size: (H, W) at full size.
        stages: pairs (start, factor): from the share `start` of all epochs on, images are `factor` times the full size.
            The first start is 0.

    Raises:
        ValueError: the stages do not begin at 0, do not rise, or have a factor outside (0, 1].
    """

    def __init__(
        self, transforms: Sequence[BatchAugment], spatial_size: Sequence[int], stages: Sequence[Sequence[float]]
    ):
        starts, factors = zip(*stages, strict=True)
        if starts[0] != 0 or list(starts) != sorted(set(starts)) or starts[-1] >= 1:
            raise ValueError(f"stages={list(stages)}: their starts must begin at 0 and rise, below 1.")
        if not all(0 < factor <= 1 for factor in factors):
            raise ValueError(f"stages={list(stages)}: factors must be in (0, 1].")
        self.transforms = list(transforms)
        self.sizes = [tuple(round(side * factor) for side in spatial_size) for factor in factors]
        self.starts = starts

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._set)
        engine.add_event_handler(Events.EPOCH_STARTED, self._set)

    def _set(self, engine: Engine) -> None:
        share = max(engine.state.epoch - 1, 0) / engine.state.max_epochs
        stage = sum(start <= share for start in self.starts) - 1
        for transform in self.transforms:
            transform.spatial_size = self.sizes[stage]
