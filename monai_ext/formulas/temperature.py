"""Temperature of probabilities: one number that makes all of them more or less certain."""

from __future__ import annotations

import math

from torch import Tensor

__all__ = ["check_temperature", "tempered"]


def check_temperature(temperature: float) -> float:
    """`temperature` as a number.

    Raises:
        ValueError: it is not above 0.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature={temperature}: give a number above 0; 1 leaves probabilities as they are.")
    return float(temperature)


def tempered(probability: Tensor, temperature: float) -> Tensor:
    """Probabilities sigmoid(logit(p) / T), of the shape and type of p (Guo et al. 2017, one class).

    Above 1 they move towards 1/2, below 1 away from it. 0, 1/2 and 1 stay, and so does the mask [p > 1/2].

    >>> import torch
    >>> tempered(torch.tensor([0.0, 0.2, 0.5, 1.0]), 0.5)
    tensor([0.0000, 0.0588, 0.5000, 1.0000])
    """
    if check_temperature(temperature) == 1:
        return probability
    return (probability.float().logit() / temperature).sigmoid().to(probability.dtype)
