"""Losses of super-resolution that compare pixels, by their names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from monai_ext.losses.changing import ChangingLoss
from monai_ext.losses.psnr import PSNRLoss
from monai_ext.runtime.settings import chosen

__all__ = ["pixel_loss"]

LOSSES: dict[str, Callable[[], nn.Module]] = {
    "l1": nn.L1Loss,
    "mse": nn.MSELoss,
    "psnr": partial(PSNRLoss, weight=0.01),
}


def pixel_loss(first: str = "l1", last: str | None = None, *, change: float = 0.5) -> ChangingLoss:
    """ "l1", "mse" or "psnr" (in units of 100 dB, so that its gradients are about as large as those of "l1").

    Args:
        first: the loss.
        last: the one that takes its place from the share `change` of the training on, see `ChangingLoss`; None: none.

    Raises:
        ValueError: another name, or a share outside [0, 1].
    """
    end = None if last is None else chosen(LOSSES, end_loss=last)()
    return ChangingLoss(chosen(LOSSES, pixel_loss=first)(), end, change=change)
