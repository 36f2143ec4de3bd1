"""Energy distance and energy score (Szekely & Rizzo 2013; Gneiting & Raftery 2007, eq. 22) from distances d.

    energy distance squared  2 E d(x, y) - E d(x, x') - E d(y, y')
    energy score             E d(x, y) - E d(x, x') / 2

Both are proper where d is of negative type: least in the mean for samples x distributed as the targets y.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor

__all__ = ["error_and_spread", "mean_within"]


def mean_within(distances: Tensor, *, estimator: str = "V", weight: Tensor | None = None) -> Tensor:
    """E d(x, x') of each set from the distances of its members, (B, N, N) with a diagonal of 0: (B,).

    "V" is the mean over all N^2 ordered pairs, "U" over the N (N - 1) of different members; NaN where there is no pair.

    Args:
        weight: (B, N), 0 for members that do not count, else 1.
    """
    weight = distances.new_ones(distances.shape[:2]) if weight is None else weight.to(distances.dtype)
    count = weight.sum(1)
    pairs = count * count if estimator == "V" else count * (count - 1)
    return torch.einsum("bij,bi,bj->b", distances, weight, weight) / pairs


def error_and_spread(
    samples: Sequence[Tensor], target: Tensor, distance: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """E d(x, y) and E d(x, x') over different samples, for an energy score error - spread / 2: shaped as `distance`.

    Memory is that of one distance at a time, and gradients flow.

    Args:
        samples: two at least.
        distance: function of two samples, or of a sample and the target.
    """
    errors = [distance(sample, target) for sample in samples]
    spreads = [distance(first, second) for first, second in combinations(samples, 2)]
    return torch.stack(errors).mean(0), torch.stack(spreads).mean(0)
