from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from monai_ext.formulas.gaussians import gaussian_kl


def test_divergence_is_that_of_torch_distributions():
    mean, log_sigma, prior_mean, prior_log_sigma = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    expected = kl_divergence(Normal(mean, log_sigma.exp()), Normal(prior_mean, prior_log_sigma.exp()))
    torch.testing.assert_close(gaussian_kl(mean, log_sigma, prior_mean, prior_log_sigma), expected)


def test_a_prior_of_numbers_is_one_of_constant_tensors():
    mean, log_sigma = torch.randn(2, 4, generator=torch.Generator().manual_seed(1))
    expected = gaussian_kl(mean, log_sigma, torch.full((4,), 0.5), torch.full((4,), -1.5))
    torch.testing.assert_close(gaussian_kl(mean, log_sigma, 0.5, -1.5), expected)


def test_divergence_by_hand():
    # N(2, 1) from N(0, 2^2): log 2 + (1 + 4) / 8 - 1 / 2
    given = gaussian_kl(torch.tensor(2.0), torch.tensor(0.0), 0.0, math.log(2)).item()
    assert given == pytest.approx(math.log(2) + 5 / 8 - 1 / 2)
