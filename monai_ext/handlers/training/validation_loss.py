"""The loss of a training on the validation items."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ignite.metrics import Loss
from torch import Tensor

from monai_ext.handlers.engine import Engine

__all__ = ["ValidationLoss"]


class ValidationLoss:
    """Mean of a loss over the items of a validation, as the metric `val_loss`; for the evaluator's handlers.

    It is Ignite's `Loss` of the averaged weights, without augmentation, so it is not the training's own loss on other
    items. The host waits for the device once, at the end.

    Args:
        loss: (prediction, label) -> scalar, called with "pred" and "label" of the engine's output.
    """

    def __init__(self, loss: Callable[[Any, Any], Tensor]):
        self.loss = loss

    def attach(self, engine: Engine) -> None:
        device = getattr(engine.state, "device", None) or "cpu"
        Loss(self.loss, output_transform=_prediction_and_label, device=device).attach(engine, "val_loss")


def _prediction_and_label(output: Mapping[str, Any]) -> tuple[Tensor, Any]:
    return output["pred"].float(), output["label"]
