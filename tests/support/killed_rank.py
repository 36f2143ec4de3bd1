"""A handler that kills its own process once, in the middle of an epoch."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from ignite.engine import Engine, Events


class KilledOnce:
    """SIGKILL for the process of `rank` in its second iteration of `epoch`, unless `marker` is there already."""

    def __init__(self, marker: str, *, rank: int, epoch: int):
        self.marker, self.rank, self.epoch = Path(marker), rank, epoch

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._kill)

    def _kill(self, engine: Engine) -> None:
        second = (engine.state.iteration - 1) % engine.state.epoch_length == 1
        mine = os.environ["RANK"] == str(self.rank) and engine.state.epoch == self.epoch and second
        if mine and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
