"""Axis-aligned Gaussians of a latent as tensors (B, 2, Z, ...): means [:, 0] and log sigmas [:, 1], float32.

The functions that a forward pass calls can be compiled by TorchScript.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

__all__ = ["as_distribution", "as_gaussian", "bounded_gaussian", "latent_at"]


def as_gaussian(maps: Tensor) -> Tensor:
    """(B, 2 Z, ...) -> (B, 2, Z, ...)."""
    return torch.stack(maps.float().chunk(2, dim=1), dim=1)


def bounded_gaussian(gaussian: Tensor, limit: float) -> Tensor:
    """The Gaussian with |log sigma| <= limit, so that divergences stay finite.

    Gradients pass as if there were no limit, so that a sigma that went beyond it can come back.
    """
    log_sigma = gaussian[:, 1]
    excess = (log_sigma - log_sigma.clamp(-limit, limit)).detach()
    return torch.stack([gaussian[:, 0], log_sigma - excess], dim=1)


def latent_at(gaussian: Tensor, noise: Tensor) -> Tensor:
    """The latent mean + sigma * noise, (B, Z, ...), of standard normal noise of that shape."""
    return gaussian[:, 0] + gaussian[:, 1].exp() * noise


def as_distribution(gaussian: Tensor) -> Independent:
    """The Gaussian as a distribution over (B, Z, ...)."""
    mean, log_sigma = gaussian.unbind(1)
    return Independent(Normal(mean, log_sigma.exp(), validate_args=False), mean.ndim - 1, validate_args=False)
