from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Laplace, Normal, kl_divergence

from monai_ext.losses.energy import patch_energy
from monai_ext.losses.super_resolution_elbo import (
    SuperResolutionELBO,
    negative_log_likelihood,
    values_per_pixel,
    watched_terms,
)


def output(batch: int = 2, latent: int = 3, height: int = 2, width: int = 3, scale: int = 4) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    image = (batch, 3, scale * height, scale * width)
    return {
        "mean": torch.rand(image),
        "log_scale": torch.randn(image) - 2,
        "prior": torch.randn(batch, 2, latent, height, width),
        "posterior": torch.randn(batch, 2, latent, height, width),
        "samples": torch.rand(batch, 2, *image[1:]),
    }


def test_loss_is_the_weighted_sum_of_its_parts_in_nats_for_each_value():
    given, target = output(), torch.rand(2, 3, 8, 12)
    loss = SuperResolutionELBO(0.7, elbo_weight=0.2, energy_weight=3.0, free_nats=0.0, patch=4)
    terms = loss.terms(given, target)
    pair = [Normal(given[name][:, 0], given[name][:, 1].exp()) for name in ("posterior", "prior")]
    expected_kl = kl_divergence(*pair)  # (B, Z, h, w)
    torch.testing.assert_close(terms.kl, expected_kl.mean((2, 3)))
    nll = negative_log_likelihood(given["mean"], given["log_scale"], target)
    error, distance = patch_energy(given["samples"], target, patch=4)
    energy = error - distance / 2
    values = 3 * 8 * 12
    bound = nll + 0.7 * expected_kl.flatten(1).sum(1) / values
    torch.testing.assert_close(loss(given, target), (0.2 * bound + 3.0 * energy).mean())
    assert values_per_pixel(given) == 3 * 16


def test_free_nats_hold_for_each_channel_and_leave_it_without_a_slope():
    given, target = output(), torch.rand(2, 3, 8, 12)
    given["posterior"] = given["prior"].clone()
    given["posterior"][:, 0, 1] += 3.0  # the second channel alone says something
    given["posterior"].requires_grad_()
    loss = SuperResolutionELBO(free_nats=0.5, energy_weight=0.0, patch=4)
    terms = loss.terms(given, target)
    weighted = loss.weighted(terms, values=48)["kl"][1]
    torch.testing.assert_close(weighted, (0.5 + terms.kl[:, 1].mean() + 0.5) / 48)
    weighted.backward()
    slopes = given["posterior"].grad.abs().sum((0, 1, 3, 4))
    assert slopes[1] > 0 and slopes[0] == slopes[2] == 0


def test_beta_is_changed_on_the_way():
    given, target = output(), torch.rand(2, 3, 8, 12)
    loss = SuperResolutionELBO(1.0, patch=4)
    with_divergence = loss(given, target)
    loss.set_beta(0.0)
    assert loss(given, target) < with_divergence


def test_what_is_watched_are_means_of_channels_distance_and_error():
    given, target = output(), torch.rand(2, 3, 8, 12)
    terms = SuperResolutionELBO(patch=4).terms(given, target)
    watched = watched_terms(terms)
    assert list(watched) == ["kl_00", "kl_01", "kl_02", "sample_distance", "sample_error"]
    error, distance = patch_energy(given["samples"], target, patch=4)
    torch.testing.assert_close(watched["sample_distance"], distance.mean())
    torch.testing.assert_close(watched["sample_error"], error.mean())
    torch.testing.assert_close(watched["kl_01"], terms.kl[:, 1].mean())


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: SuperResolutionELBO(-1.0), "beta=-1.0"),
        (lambda: SuperResolutionELBO(energy_weight=math.nan), "energy_weight=nan"),
        (lambda: SuperResolutionELBO(likelihood="student"), "one of laplace, gaussian"),
        (lambda: SuperResolutionELBO()(torch.zeros(1), torch.zeros(1)), "samples=2"),
    ],
)
def test_mistakes_are_named(action, message):
    with pytest.raises(ValueError, match=message):
        action()


def test_the_defaults_are_those_of_the_trained_networks():
    given, target = output(height=4, width=6), torch.rand(2, 3, 16, 24)
    given["posterior"] = given["prior"] + 0.01 * given["posterior"]  # some channels below the free nats
    explicit = SuperResolutionELBO(
        1.0, free_nats=0.02, likelihood="laplace", elbo_weight=0.05, energy_weight=1.0, patch=8
    )
    torch.testing.assert_close(SuperResolutionELBO()(given, target), explicit(given, target), rtol=0, atol=0)
    assert values_per_pixel(given) == 48


@pytest.mark.parametrize(("name", "family"), [("laplace", Laplace), ("gaussian", Normal)])
def test_likelihood_is_that_of_torch_distributions(name, family):
    mean, log_scale, target = torch.randn(3, 2, 3, 4, 5).unbind(0)
    expected = -family(mean, log_scale.exp()).log_prob(target).flatten(1).mean(1)
    torch.testing.assert_close(negative_log_likelihood(mean, log_scale, target, likelihood=name), expected)


def test_mistakes_of_a_likelihood_are_named():
    with pytest.raises(ValueError, match="mean .*, log_scale .* and target .* differ in shape"):
        negative_log_likelihood(*torch.zeros(2, 1, 1, 2, 2), torch.zeros(1, 1, 2, 3))
    with pytest.raises(ValueError, match="likelihood='t' must be one of laplace"):
        negative_log_likelihood(*torch.zeros(3, 1, 1, 2, 2), likelihood="t")
