"""Curves of a training run in TensorBoard: its loss terms and learning rates."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from ignite.engine import Events
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from monai_ext.handlers.engine import Engine

__all__ = ["TrainingCurves"]

PLAYERS = {"optimizer": "generator", "discriminator_optimizer": "discriminator"}


class TrainingCurves:
    """Writes loss terms and learning rates to TensorBoard every `interval` iterations.

    An engine whose output has "terms", scalars on the device by name, gets a curve `train/NAME` for each: its mean
    since the last point, over the steps that have the term (a lazy penalty is not in all of them), with a further point
    at the end of each epoch. Any other engine gets `train/loss`, the loss of that iteration.

    Args:
        summary_writer: where to write.
        optimizers: the learning rate of a single one is the curve `train/learning_rate`, those of "optimizer" and
            "discriminator_optimizer" are `train/learning_rate_generator` and `train/learning_rate_discriminator`.
        interval: iterations between two points, the only ones at which the host waits for the device.
    """

    def __init__(
        self, summary_writer: SummaryWriter, *, optimizers: Mapping[str, torch.optim.Optimizer], interval: int = 10
    ):
        self.summary_writer = summary_writer
        self.optimizers = {
            "learning_rate" if len(optimizers) == 1 else f"learning_rate_{PLAYERS.get(name, name)}": optimizer
            for name, optimizer in optimizers.items()
        }
        self.interval = interval
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._accumulate)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self._write)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write_rest)

    def _accumulate(self, engine: Engine) -> None:
        for name, term in engine.state.output.get("terms", {}).items():
            self._sums[name] = self._sums[name] + term if name in self._sums else term.clone()
            self._counts[name] = self._counts.get(name, 0) + 1

    def _write_rest(self, engine: Engine) -> None:
        if self._sums:
            self._write(engine)

    def _write(self, engine: Engine) -> None:
        if self._sums:
            sums = torch.stack([value.float() for value in self._sums.values()]).tolist()
            means = {name: value / self._counts[name] for name, value in zip(self._sums, sums, strict=True)}
        else:
            means = {"loss": engine.state.output["loss"].item()}
        rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in self.optimizers.items()}
        for name, value in (means | rates).items():
            self.summary_writer.add_scalar(f"train/{name}", value, engine.state.iteration)
        self._sums, self._counts = {}, {}
