"""Axis-aligned Gaussians given by means and log standard deviations."""

from __future__ import annotations

import math

from torch import Tensor

__all__ = ["gaussian_kl"]


def gaussian_kl(mean: Tensor, log_sigma: Tensor, prior_mean: Tensor | float, prior_log_sigma: Tensor | float) -> Tensor:
    """KL(N(mean, sigma^2) || N(prior_mean, prior_sigma^2)) of each number, in nats.

        log(sigma_p / sigma) + (sigma^2 + (mu - mu_p)^2) / (2 sigma_p^2) - 1/2

    >>> import torch
    >>> gaussian_kl(torch.tensor(2.0), torch.tensor(0.0), 0.0, 0.0)  # two sigmas apart: 2^2 / 2
    tensor(2.)
    """
    ratio = log_sigma - prior_log_sigma
    # Quotients as exponentials of differences: no square of a tiny sigma is ever formed.
    precision = (-prior_log_sigma).exp() if isinstance(prior_log_sigma, Tensor) else math.exp(-prior_log_sigma)
    return -ratio + 0.5 * ((2 * ratio).exp() + ((mean - prior_mean) * precision).square() - 1)
