"""A loss that becomes another one in the course of a training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

__all__ = ["ChangingLoss"]


class ChangingLoss(nn.Module):
    """`first`, and from the share `change` of the training on `last`, such as an L1 loss and then the score itself.

    Give `last` a weight that makes its gradients about as large as those of `first`: Adam's moments are of these.

    Args:
        first, last: losses with the same arguments; `last` None: `first` throughout.
        change: share of the training, in [0, 1].

    Attributes:
        progress: share of the training that is done, 0 at first; set by `monai_ext.handlers.LossProgress`.

    Raises:
        ValueError: `change` is outside [0, 1].
    """

    def __init__(self, first: Callable[..., Tensor], last: Callable[..., Tensor] | None = None, *, change: float = 0.5):
        super().__init__()
        if not 0 <= change <= 1:
            raise ValueError(f"change={change} is a share of the training: choose 0 to 1.")
        self.first, self.last, self.change = first, last, change
        self.progress = 0.0

    def forward(self, *args: Any) -> Tensor:
        return self.first(*args) if self.last is None or self.progress < self.change else self.last(*args)
