"""The learning-rate schedule of bundles that train in one stage."""

from __future__ import annotations

from collections.abc import Sized

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

__all__ = ["one_cycle"]


def one_cycle(optimizer: Optimizer, *, epochs: int, loader: Sized, warm_up: float = 0.15) -> OneCycleLR:
    """One cycle over all steps: from a tenth of the optimiser's learning rate up to it, then down to a thousandth.

    After Smith and Topin 2019; up in the share `warm_up` of the steps, down along half a cosine.
    """
    rate, steps = optimizer.param_groups[0]["lr"], epochs * len(loader)
    return OneCycleLR(optimizer, rate, steps, pct_start=warm_up, div_factor=10, final_div_factor=100)
