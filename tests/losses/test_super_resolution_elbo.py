"""Likelihood, energy score and the bound that a super-resolution network with a latent is trained by."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Laplace, Normal, kl_divergence

from monai_ext.losses.energy import patch_distance, patch_energy, patch_energy_score
from monai_ext.losses.heteroscedastic import negative_log_likelihood
from monai_ext.losses.super_resolution_elbo import SuperResolutionELBO, values_per_pixel, watched_terms


@pytest.mark.parametrize(("name", "family"), [("laplace", Laplace), ("gaussian", Normal)])
def test_likelihood_is_that_of_torch_distributions(name, family):
    mean, log_scale, target = torch.randn(3, 2, 3, 4, 5).unbind(0)
    expected = -family(mean, log_scale.exp()).log_prob(target).flatten(1).mean(1)
    torch.testing.assert_close(negative_log_likelihood(mean, log_scale, target, likelihood=name), expected)


def test_the_best_scale_of_a_laplace_likelihood_is_the_mean_absolute_error():
    target = torch.randn(1, 1, 8, 8)
    scales = torch.linspace(-2, 1, 301)
    losses = [negative_log_likelihood(torch.zeros(1, 1, 8, 8), s.expand(1, 1, 8, 8), target).item() for s in scales]
    best = scales[torch.tensor(losses).argmin()].exp().item()
    assert best == pytest.approx(target.abs().mean().item(), rel=0.02)


def slow_patch_distance(first: torch.Tensor, second: torch.Tensor, patch: int) -> float:
    (channels, height, width), values = first.shape, []
    for top in range(0, height, patch):
        for left in range(0, width, patch):
            total = 0.0
            for c in range(channels):
                for y in range(top, top + patch):
                    for x in range(left, left + patch):
                        total += (first[c, y, x] - second[c, y, x]).item() ** 2
            values.append(math.sqrt(total / (channels * patch**2)))
    return sum(values) / len(values)


def test_patch_distance_and_energy_score_are_those_of_loops_over_patches_and_pairs():
    samples, target = torch.rand(2, 3, 2, 4, 6), torch.rand(2, 2, 4, 6)
    score = patch_energy_score(samples, target, patch=2)
    for b in range(2):
        near = [slow_patch_distance(s, target[b], 2) for s in samples[b]]
        apart = [slow_patch_distance(samples[b, i], samples[b, j], 2) for i in range(3) for j in range(3) if i != j]
        assert patch_distance(samples[:, 0], target, patch=2)[b].item() == pytest.approx(near[0], abs=1e-5)
        assert score[b].item() == pytest.approx(sum(near) / 3 - sum(apart) / 6 / 2, abs=1e-5)


def test_samples_of_the_targets_own_distribution_score_best():
    torch.manual_seed(0)
    count, shape = 3000, (1, 4, 4)
    target = torch.randint(2, (count, 1, 1, 1)).expand(-1, *shape).float()  # all black or all white: two modes

    def mean_score(black: float, noise: float) -> float:
        draws = (torch.rand(count, 2, 1, 1, 1) >= black).float().expand(-1, -1, *shape)
        draws = draws + noise * torch.randn(count, 2, *shape)
        return patch_energy_score(draws, target, patch=4).mean().item()

    own = mean_score(0.5, 0.0)
    grey = patch_energy_score(torch.full((count, 2, *shape), 0.5), target, patch=4).mean().item()
    assert own == pytest.approx(0.25, abs=0.02) and grey == pytest.approx(0.5, abs=1e-3)
    assert own < min(mean_score(0.1, 0.0), mean_score(0.9, 0.0), mean_score(0.5, 0.3))


def test_the_slope_of_the_energy_score_is_finite_for_equal_images():
    samples = torch.zeros(1, 2, 1, 4, 4, requires_grad=True)
    patch_energy_score(samples, torch.zeros(1, 1, 4, 4), patch=4).sum().backward()
    assert samples.grad.isfinite().all()


def answer(batch: int = 2, latent: int = 3, height: int = 2, width: int = 3, scale: int = 4) -> dict[str, torch.Tensor]:
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
    given, target = answer(), torch.rand(2, 3, 8, 12)
    loss = SuperResolutionELBO(0.7, elbo_weight=0.2, energy_weight=3.0, free_nats=0.0, patch=4)
    terms = loss.terms(given, target)
    pair = [Normal(given[name][:, 0], given[name][:, 1].exp()) for name in ("posterior", "prior")]
    expected_kl = kl_divergence(*pair)  # (B, Z, h, w)
    torch.testing.assert_close(terms.kl, expected_kl.mean((2, 3)))
    nll = negative_log_likelihood(given["mean"], given["log_scale"], target)
    energy = patch_energy_score(given["samples"], target, patch=4)
    values = 3 * 8 * 12
    bound = nll + 0.7 * expected_kl.flatten(1).sum(1) / values
    torch.testing.assert_close(loss(given, target), (0.2 * bound + 3.0 * energy).mean())
    assert values_per_pixel(given) == 3 * 16


def test_free_nats_hold_for_each_channel_and_leave_it_without_a_slope():
    given, target = answer(), torch.rand(2, 3, 8, 12)
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
    given, target = answer(), torch.rand(2, 3, 8, 12)
    loss = SuperResolutionELBO(1.0, patch=4)
    with_divergence = loss(given, target)
    loss.set_beta(0.0)
    assert loss(given, target) < with_divergence


def test_what_is_watched_are_means_of_channels_distance_and_error():
    given, target = answer(), torch.rand(2, 3, 8, 12)
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
        (lambda: negative_log_likelihood(*torch.zeros(2, 1, 1, 2, 2), torch.zeros(1, 1, 2, 3)), "differ in shape"),
        (
            lambda: negative_log_likelihood(*torch.zeros(3, 1, 1, 2, 2), likelihood="t"),
            "likelihood='t' must be one of laplace",
        ),
        (lambda: patch_distance(*torch.zeros(2, 1, 1, 6, 8), patch=4), "6 x 8 pixels does not divide into patches"),
        (lambda: patch_distance(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 8)), "and alike"),
        (lambda: patch_energy_score(torch.zeros(1, 1, 1, 4, 4), torch.zeros(1, 1, 4, 4)), "n >= 2"),
    ],
)
def test_mistakes_are_named(action, message):
    with pytest.raises(ValueError, match=message):
        action()
