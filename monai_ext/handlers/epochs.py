"""Bases of handlers that collect something in the iterations of an epoch and act on it when the epoch ends."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping

from ignite.engine import Events
from torch import Tensor

from monai_ext.handlers.engine import Engine
from monai_ext.handlers.finite import refuse_non_finite_predictions

__all__ = ["Alarm", "EpochHandler"]

_logger = logging.getLogger(__name__)


class EpochHandler:
    """Calls `reset` when an epoch starts, `collect` after every `interval`-th iteration, `finish` when it ends.

    A subclass with `only_finite` does not see predictions with NaN, see `refuse_non_finite_predictions`.
    """

    interval = 1
    only_finite = False

    def attach(self, engine: Engine) -> None:
        if self.only_finite:
            refuse_non_finite_predictions(engine)
        engine.add_event_handler(Events.EPOCH_STARTED, self.reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self.collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.finish)

    def reset(self, engine: Engine) -> None:
        """Forget what was collected."""
        raise NotImplementedError

    def collect(self, engine: Engine) -> None:
        """Take what is needed of the engine's batch and output."""
        raise NotImplementedError

    def finish(self, engine: Engine) -> None:
        """Act on what was collected."""
        raise NotImplementedError


class Alarm(EpochHandler):
    """Warns of what lasts `patience` epochs in a row, and again after as many.

    A subclass appends to `rows` in `collect`, and in `judge`, which an epoch shorter than the interval reaches with the
    row of its last iteration, returns a sentence, or None, for each fault by name.

    Args:
        patience: epochs of the engine that it is attached to.
        interval: iterations between two measurements.
    """

    def __init__(self, *, patience: int, interval: int = 1):
        if min(patience, interval) < 1:
            raise ValueError(f"patience={patience} and interval={interval} must be at least 1.")
        self.patience, self.interval = patience, interval
        self.rows: list[Tensor] = []
        self._lasting: Counter[str] = Counter()

    def reset(self, engine: Engine) -> None:
        self.rows.clear()

    def finish(self, engine: Engine) -> None:
        if not self.rows:
            self.collect(engine)
        for name, sentence in self.judge(engine).items() if self.rows else ():
            self._lasting[name] = self._lasting[name] + 1 if sentence else 0
            if sentence and self._lasting[name] % self.patience == 0:
                _logger.warning(
                    f"after epoch {engine.state.epoch}, for {self._lasting[name]} epochs in a row: {sentence}."
                )

    def judge(self, engine: Engine) -> Mapping[str, str | None]:
        """Fault -> what is wrong and what to do, or None."""
        raise NotImplementedError
