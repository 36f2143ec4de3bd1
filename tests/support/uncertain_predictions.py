"""Predicted means and variances with targets, for tests of likelihoods and of uncertainty scores."""

from __future__ import annotations

import torch

from monai_ext.metrics.uncertainty_tables import UncertaintyTable


def predictions(*shape: int, factor: float = 1.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean, variance that is `factor`^2 too large, and a target with Gaussian errors; sd from 0.02 to 0.2."""
    generator = torch.Generator().manual_seed(seed)
    mean = 0.3 + 0.4 * torch.rand(shape, generator=generator, dtype=torch.float64)
    sd = 0.02 * 10 ** torch.rand(shape, generator=generator, dtype=torch.float64)
    target = mean + sd * torch.randn(shape, generator=generator, dtype=torch.float64)
    return mean, (factor * sd).square(), target


def pooled(table: UncertaintyTable) -> UncertaintyTable:
    return UncertaintyTable(*(part.sum(0) for part in table))
