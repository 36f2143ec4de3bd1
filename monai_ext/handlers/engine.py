"""Ignite's `Engine` with the attributes that MONAI's engines add, for type checkers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ignite.engine

__all__ = ["Engine"]

if TYPE_CHECKING:  # Ignite annotates outputs as integers, and lacks MONAI's attributes

    class RunState(ignite.engine.State):
        """The state of a run that has started."""

        output: Any
        batch: Any
        device: Any
        epoch_length: int
        max_epochs: int
        best_metric: float
        best_metric_epoch: int
        key_metric_name: str

    class Engine(ignite.engine.Engine):
        """A trainer or evaluator."""

        state: RunState
        data_loader: Any
        inferer: Any
        network: Any
        summary_writer: Any
        curve_step: Callable[[], int]
        loss_function: Any
        prepare_batch: Callable[..., Any]
        non_blocking: bool

else:
    Engine = ignite.engine.Engine
