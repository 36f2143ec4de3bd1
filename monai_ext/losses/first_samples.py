"""A loss of single images on the first of several samples."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

__all__ = ["FirstSamples"]


class FirstSamples(nn.Module):
    """loss(prediction, target) of the first `count` samples of each case, all as one batch.

    Called with samples (B, n, C, H, W) and their target (B, C, H, W). A loss that is a mean over samples, such as
    one of lattice artefacts, need not be computed for all of them in each step.

    Args:
        loss: of images (B, C, H, W).
        count: of the samples; of fewer, all.

    Raises:
        ValueError: a count below 1.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], count: int = 1):
        super().__init__()
        if count < 1:
            raise ValueError(f"count={count} must be at least 1.")
        self.loss, self.count = loss, count

    def forward(self, samples: Tensor, target: Tensor) -> Tensor:
        first = samples[:, : self.count]
        return self.loss(first.flatten(0, 1), target.repeat_interleave(first.shape[1], 0))
