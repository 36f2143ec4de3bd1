"""Outputs of engines for two cases of two raters, and an engine that gives them."""

from __future__ import annotations

from ignite.engine import Engine, Events
from torch import nn


def engine(outputs: list[dict], *, ids: list[list[str]] | None = None, epochs: int = 1) -> Engine:
    """An Ignite engine whose iterations give `outputs`; `validate()` runs it."""
    count = len(outputs)
    made = Engine(lambda e, _: outputs[(e.state.iteration - 1) % count])
    made.network = nn.Linear(3, 2)
    if ids is not None:

        def give_ids(e: Engine) -> None:
            e.state.batch = {"id": ids[(e.state.iteration - 1) % count]}

        made.add_event_handler(Events.ITERATION_STARTED, give_ids)
    made.validate = lambda: made.run(range(count), max_epochs=epochs)
    return made
