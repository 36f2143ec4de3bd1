"""Predicted distributions scored value by value: likelihood, CRPS and interval score (Gneiting & Raftery 2007).

Distributions are given by mean and variance, whatever their family, so that families compare at equal variance: a
Laplace distribution of variance v has the scale b = sqrt(v / 2). Shapes are any that broadcast; values are per pixel
and band, in the image's unit (NLL in nats), in the type given: pass float64 for long sums. Lower is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from monai_ext.formulas.checks import check_choice

__all__ = [
    "FAMILIES",
    "Family",
    "family_of",
    "gaussian_crps",
    "gaussian_nll",
    "interval_score",
    "laplace_crps",
    "laplace_nll",
    "sample_crps",
]


def _standard_gaussian_nll(z: Tensor, log_scale: Tensor) -> Tensor:
    return z.square() / 2 + log_scale + math.log(2 * math.pi) / 2


def _standard_laplace_nll(z: Tensor, log_scale: Tensor) -> Tensor:
    return z.abs() + log_scale + math.log(2)


def gaussian_nll(mean: Tensor, variance: Tensor, target: Tensor) -> Tensor:
    """-log N(target; mean, variance) = log(2 pi v) / 2 + (y - m)^2 / (2 v).

    >>> one = torch.ones(1)
    >>> round(gaussian_nll(0 * one, one, one).item(), 4)  # log(2 pi) / 2 + 1 / 2
    1.4189
    """
    sd = variance.sqrt()
    return _standard_gaussian_nll((target - mean) / sd, sd.log())


def laplace_nll(mean: Tensor, variance: Tensor, target: Tensor) -> Tensor:
    """-log of the Laplace density of that mean and variance: log(2 b) + |y - m| / b.

    >>> one = torch.ones(1)
    >>> round(laplace_nll(0 * one, 2 * one, one).item(), 4)  # b = 1: log 2 + 1
    1.6931
    """
    scale = (variance / 2).sqrt()
    return _standard_laplace_nll((target - mean) / scale, scale.log())


def gaussian_crps(mean: Tensor, variance: Tensor, target: Tensor) -> Tensor:
    """Continuous ranked probability score of N(mean, variance): s (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)).

    z = (y - m) / s with s = sqrt(v); Gneiting et al. 2005, eq. 5. A distribution of no width scores |y - m|.
    """
    sd = variance.sqrt()
    z = (target - mean) / sd
    density = (-0.5 * z.square()).exp() / math.sqrt(2 * math.pi)
    score = sd * (z * torch.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))
    return torch.where(sd == 0, (target - mean).abs(), score)


def laplace_crps(mean: Tensor, variance: Tensor, target: Tensor) -> Tensor:
    """Continuous ranked probability score of the Laplace distribution: b (|z| + exp(-|z|) - 3 / 4), z = (y - m) / b.

    Jordan, Krueger & Lerch 2019, appendix A. A distribution of no width scores |y - m|.

    >>> zero = torch.zeros(1)
    >>> laplace_crps(zero, zero + 2, zero).item()  # b = 1
    0.25
    """
    scale = (variance / 2).sqrt()
    z = (target - mean).abs() / scale
    return torch.where(scale == 0, (target - mean).abs(), scale * (z + (-z).exp() - 0.75))


def sample_crps(samples: Tensor, target: Tensor, *, fair: bool = True) -> Tensor:
    """CRPS from n samples: E|x - y| - E|x - x'| / 2, with the shape of `target`.

    >>> sample_crps(torch.tensor([[0.0, 1.0]]), torch.tensor([0.0])).item()  # 1/2 - 1/2, of the two unequal pairs
    0.0
    >>> sample_crps(torch.tensor([[0.0, 1.0]]), torch.tensor([0.0]), fair=False).item()  # 1/2 - 1/4, of all four pairs
    0.25

    Args:
        samples: (B, n, ...).
        target: (B, ...).
        fair: pairs of different samples only (Ferro 2014): its mean does not depend on n. False: all n^2 pairs, the
            CRPS of the n samples taken as the whole distribution. One sample scores |x - y| either way.

    Raises:
        ValueError: shapes do not fit.
    """
    if samples.ndim != target.ndim + 1 or samples.shape[2:] != target.shape[1:] or len(samples) != len(target):
        raise ValueError(
            f"samples {tuple(samples.shape)} of target {tuple(target.shape)}: they must be (B, n, ...) and (B, ...)."
        )
    count = samples.shape[1]
    distance = (samples - target[:, None]).abs().mean(1)
    if count == 1:
        return distance
    # sum over pairs |x_i - x_j| = 2 sum_i (2 i - n - 1) x_(i), with x_(i) in ascending order
    rank = torch.arange(1 - count, count, 2, device=samples.device, dtype=samples.dtype)
    spread = torch.tensordot(rank, samples.sort(dim=1).values.movedim(1, 0), dims=1)
    return distance - spread / (count * (count - 1) if fair else count**2)


def interval_score(lower: Tensor, upper: Tensor, target: Tensor, *, alpha: float) -> Tensor:
    """Winkler's score of a central interval of coverage 1 - alpha: width + 2 / alpha times the miss (Winkler 1972).

    >>> low, high = torch.tensor([0.2, 0.2]), torch.tensor([0.6, 0.6])
    >>> interval_score(low, high, torch.tensor([0.5, 0.7]), alpha=0.2)  # 0.4, and 0.4 + 10 * 0.1
    tensor([0.4000, 1.4000])

    Raises:
        ValueError: `alpha` is not between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha} must lie between 0 and 1: it is the share that may lie outside.")
    return (upper - lower) + 2 / alpha * ((lower - target).clamp(min=0) + (target - upper).clamp(min=0))


class Family(NamedTuple):
    """Symmetric distributions of a location and a scale."""

    nll: Callable[[Tensor, Tensor, Tensor], Tensor]  # of mean, variance, target
    crps: Callable[[Tensor, Tensor, Tensor], Tensor]  # of mean, variance, target
    half_width: Callable[[Tensor], Tensor]  # of the central interval of share p, in standard deviations
    standard_nll: Callable[[Tensor, Tensor], Tensor]  # of z = (y - m) / scale and log scale
    variance_factor: float  # variance = factor * scale^2


FAMILIES = {
    "laplace": Family(
        laplace_nll, laplace_crps, lambda share: -torch.log1p(-share) / math.sqrt(2), _standard_laplace_nll, 2.0
    ),
    "gaussian": Family(
        gaussian_nll, gaussian_crps, lambda share: math.sqrt(2) * torch.erfinv(share), _standard_gaussian_nll, 1.0
    ),
}


def family_of(name: str, *, argument: str = "family") -> Family:
    """The family of that name.

    Raises:
        ValueError: there is none; names `argument` and the families there are.
    """
    return FAMILIES[check_choice(argument, name, FAMILIES)]
