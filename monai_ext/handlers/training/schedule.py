"""The learning-rate schedule of bundles that train in one stage."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

__all__ = ["OneCycle", "one_cycle"]

OF_THE_PLACE = ("last_epoch", "_step_count")  # all else of its state follows from the rate and the number of steps


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
