"""The loss of a training on the validation items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from monai_ext.handlers.engine import Engine
from monai_ext.handlers.epochs import EpochHandler
from monai_ext.runtime.ranks import mean_over_ranks

__all__ = ["ValidationLoss"]


class ValidationLoss(EpochHandler):
    """Mean of a loss over the items of a validation, as the metric `val_loss`; for the evaluator's handlers.

    It is computed by the averaged weights, without augmentation, so it is not the training's own loss on other items.
    The host waits for the device once, at the end.

    Args:
        loss: (prediction, label) -> scalar, called with "pred" and "label" of the engine's output.
    """

    def __init__(self, loss: Callable[[Any, Any], Tensor]):
        self.loss = loss
        self._sum = torch.zeros(())
        self._items = 0

    def reset(self, engine: Engine) -> None:
        self._sum, self._items = torch.zeros(()), 0

    @torch.no_grad()
    def collect(self, engine: Engine) -> None:
        label = engine.state.output["label"]
        loss = self.loss(engine.state.output["pred"].float(), label)
        self._sum = self._sum.to(loss) + loss * len(label)
        self._items += len(label)

    def finish(self, engine: Engine) -> None:
        if self._items:
            sums = torch.stack([torch.as_tensor(self._sum), torch.tensor(float(self._items)).to(self._sum)])
            total, items = mean_over_ranks(sums).tolist()
            engine.state.metrics["val_loss"] = total / items
