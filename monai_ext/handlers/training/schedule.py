"""Schedules: the learning rate of bundles that train in one stage, and the weight of a divergence."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import Any, Protocol

from ignite.engine import Events
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from monai_ext.handlers.engine import Engine

__all__ = ["BetaWarmUp", "OneCycle", "one_cycle"]

OF_THE_PLACE = ("last_epoch", "_step_count")  # all else of its state follows from the rate and the number of steps


class HasBeta(Protocol):
    """A loss with a weight that may be changed, such as `ELBOLoss`."""

    def set_beta(self, beta: float) -> None: ...


class OneCycle(OneCycleLR):
    """PyTorch's one cycle, of which a resumed run takes the place alone: its rates depend on step and length only.

    So a run that is given more epochs goes on with the rates that an uninterrupted run of that length has from there
    on: after the end of a shorter cycle they rise once to the rate of the longer one at this place, and fall to its
    end. The optimiser's state is to be loaded before that of its schedule, which sets the rate of the next step.
    """

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take up the place of `state_dict` in this schedule.

        Raises:
            ValueError: it lies behind the end of this schedule.
        """
        if state_dict["last_epoch"] > self.total_steps:
            raise ValueError(
                f"the schedule has {self.total_steps} steps, and {state_dict['last_epoch']} are done: set a larger "
                "max_epochs."
            )
        super().load_state_dict({name: state_dict[name] - 1 for name in OF_THE_PLACE})
        self.step()  # sets the rate and momentum of the place, which may be others than the optimiser's state has


def one_cycle(optimizer: Optimizer, *, epochs: int, loader: Sized, warm_up: float = 0.15) -> OneCycle:
    """One cycle over all steps: from a tenth of the optimiser's learning rate up to it, then down to a thousandth.

    After Smith and Topin 2019; up in the share `warm_up` of the steps, down along half a cosine.
    """
    rate, steps = optimizer.param_groups[0]["lr"], epochs * len(loader)
    return OneCycle(optimizer, rate, steps, pct_start=warm_up, div_factor=10, final_div_factor=100)


class BetaWarmUp:
    """Raises the weight of the divergence from 0 to `beta` over the first `share` of the iterations of a training run.

    It depends on the iteration alone, so a resumed run goes on as an uninterrupted one. See `ELBOLoss`. Does nothing
    for a loss without beta.
    """

    def __init__(self, loss: HasBeta, *, beta: float = 1.0, share: float = 0.2):
        if not 0 <= share <= 1:
            raise ValueError(f"share={share} must be in [0, 1]: the part of the training in which beta rises.")
        self.loss = loss
        self.beta = beta
        self.share = share

    def attach(self, engine: Engine) -> None:
        if hasattr(self.loss, "set_beta"):
            engine.add_event_handler(Events.ITERATION_STARTED, self._set)

    def _set(self, engine: Engine) -> None:
        length = self.share * engine.state.max_epochs * engine.state.epoch_length
        done = engine.state.iteration - 1  # Ignite counts the iteration that begins
        self.loss.set_beta(self.beta * (min(1.0, done / length) if length else 1.0))
