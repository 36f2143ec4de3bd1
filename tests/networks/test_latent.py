from __future__ import annotations

import torch
from torch.distributions import Independent

from monai_ext.formulas.gaussians import gaussian_kl
from monai_ext.networks.latent import as_distribution, as_gaussian, bounded_gaussian, latent_at


def test_the_first_half_of_the_maps_are_means_and_the_second_log_sigmas():
    maps = torch.arange(8.0, dtype=torch.float64).view(1, 4, 2)
    gaussian = as_gaussian(maps)
    assert gaussian.dtype == torch.float32
    assert gaussian.tolist() == [[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]]


def test_only_the_log_sigma_is_bounded():
    gaussian = torch.tensor([[[-9.0, 9.0], [-9.0, 9.0]]])
    assert bounded_gaussian(gaussian, 5.0).tolist() == [[[-9, 9], [-5, 5]]]


def test_a_latent_is_the_mean_plus_sigma_times_the_noise():
    gaussian = torch.tensor([[[1.0, 2.0], [0.0, 1.0]]])
    expected = torch.tensor([[1.5, 2 - 2 * torch.e]])
    torch.testing.assert_close(latent_at(gaussian, torch.tensor([[0.5, -2.0]])), expected)


def test_the_distribution_is_over_all_but_the_batch():
    gaussian = torch.randn(3, 2, 4, 5, 6)
    distribution = as_distribution(gaussian)
    assert isinstance(distribution, Independent)
    assert (distribution.batch_shape, distribution.event_shape) == ((3,), (4, 5, 6))
    torch.testing.assert_close(distribution.mean, gaussian[:, 0])
    torch.testing.assert_close(distribution.stddev.log(), gaussian[:, 1])


def test_a_sigma_beyond_the_limit_finds_back():
    prior = torch.tensor([[[0.0], [9.0]]], requires_grad=True)
    optimizer = torch.optim.Adam([prior], lr=0.5)
    posterior = torch.tensor([[[0.3], [-1.0]]])
    for _ in range(100):
        optimizer.zero_grad()
        gaussian_kl(*posterior.unbind(1), *bounded_gaussian(prior, 5.0).unbind(1)).sum().backward()
        optimizer.step()
    assert prior[0, 1].item() < 0
