"""How likely a value is under a predicted mean and a predicted scale of its own (Kendall and Gal 2017)."""

from __future__ import annotations

import math

from torch import Tensor

__all__ = ["LIKELIHOODS", "negative_log_likelihood"]

LIKELIHOODS = ("laplace", "gaussian")


def negative_log_likelihood(mean: Tensor, log_scale: Tensor, target: Tensor, *, likelihood: str = "laplace") -> Tensor:
    """Mean over the values of each image of -log p(target | mean, scale), (B,), float32, in nats.

    Laplace: |x - m| / b + log(2 b), variance 2 b^2. Gaussian: ((x - m) / s)^2 / 2 + log(s) + log(2 pi) / 2.

    >>> import torch
    >>> zero = torch.zeros(1, 1, 1, 1)
    >>> round(negative_log_likelihood(zero, zero, zero + 3).item(), 4)  # 3 + log 2
    3.6931

    Args:
        mean, log_scale, target: (B, C, H, W), floating.

    Raises:
        ValueError: shapes differ, or another likelihood.
    """
    if not mean.shape == log_scale.shape == target.shape:
        raise ValueError(
            f"mean {tuple(mean.shape)}, log_scale {tuple(log_scale.shape)} and target {tuple(target.shape)} differ in "
            "shape."
        )
    if likelihood not in LIKELIHOODS:
        raise ValueError(f"likelihood={likelihood!r} must be one of {', '.join(LIKELIHOODS)}.")
    log_scale = log_scale.float()
    error = (target.float() - mean.float()) * (-log_scale).exp()
    if likelihood == "laplace":
        values = error.abs() + log_scale + math.log(2)
    else:
        values = error.square() / 2 + log_scale + math.log(2 * math.pi) / 2
    return values.flatten(1).mean(1)
