"""Negative log-likelihood under a predicted mean and scale of each value (Kendall and Gal 2017)."""

from __future__ import annotations

from torch import Tensor

from monai_ext.formulas.checks import check_same_shape
from monai_ext.formulas.likelihoods import family_of

__all__ = ["negative_log_likelihood"]


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
    check_same_shape(mean=mean, log_scale=log_scale, target=target)
    family = family_of(likelihood, argument="likelihood")
    log_scale = log_scale.float()
    error = (target.float() - mean.float()) * (-log_scale).exp()
    return family.standard_nll(error, log_scale).flatten(1).mean(1)
