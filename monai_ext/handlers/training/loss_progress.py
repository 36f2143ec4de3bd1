"""How far a training is, for losses that change in its course."""

from __future__ import annotations

from ignite.engine import Events

from monai_ext.handlers.engine import Engine
from monai_ext.losses.changing import ChangingLoss

__all__ = ["LossProgress"]


class LossProgress:
    """Sets `loss.progress` by the iteration alone, so that a resumed run goes on as an uninterrupted one.

    Args:
        loss: of the trainer.
        epochs: of the training, or of its stage that has this loss.
    """

    def __init__(self, loss: ChangingLoss, epochs: int):
        self.loss, self.epochs = loss, epochs

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_STARTED, self._set)

    def _set(self, engine: Engine) -> None:
        done = engine.state.iteration - 1  # Ignite counts the iteration that begins
        self.loss.progress = done / max(1, engine.state.epoch_length * self.epochs)
