from __future__ import annotations

import pytest
import reference_uncertainty as reference
import torch
from torch.distributions import Laplace, Normal
from uncertain_predictions import predictions

from monai_ext.formulas.likelihoods import (
    FAMILIES,
    family_of,
    gaussian_crps,
    gaussian_nll,
    interval_score,
    laplace_crps,
    laplace_nll,
    sample_crps,
)


def test_likelihoods_equal_torch_distributions_of_that_variance():
    mean, variance, target = predictions(2, 3, 4, 5)
    torch.testing.assert_close(gaussian_nll(mean, variance, target), -Normal(mean, variance.sqrt()).log_prob(target))
    scale = (variance / 2).sqrt()
    torch.testing.assert_close(Laplace(mean, scale).variance, variance)
    torch.testing.assert_close(laplace_nll(mean, variance, target), -Laplace(mean, scale).log_prob(target))


@pytest.mark.parametrize(
    ("crps", "density"),
    [(gaussian_crps, reference.gaussian_density), (laplace_crps, reference.laplace_density)],
    ids=["gaussian", "laplace"],
)
def test_crps_equals_the_integral_of_its_definition(crps, density):
    for mean, variance, target in [(0.4, 0.01, 0.4), (0.4, 0.01, 0.65), (0.2, 0.09, 0.1)]:
        given = crps(*(torch.tensor(value, dtype=torch.float64) for value in (mean, variance, target)))
        assert given.item() == pytest.approx(reference.crps(density, mean, variance, target), abs=2e-4 * variance**0.5)


def test_crps_of_no_width_is_the_absolute_error():
    zero, target = torch.zeros(3), torch.tensor([0.0, 0.25, -0.5])
    for crps in (gaussian_crps, laplace_crps):
        assert crps(zero, zero, target).tolist() == [0.0, 0.25, 0.5]


@pytest.mark.parametrize("fair", [True, False])
def test_sample_crps_equals_the_double_loop(fair):
    generator = torch.Generator().manual_seed(0)
    samples, target = torch.rand(2, 7, 3, generator=generator).double(), torch.rand(2, 3, generator=generator).double()
    given = sample_crps(samples, target, fair=fair)
    for i, j in [(0, 0), (1, 2)]:
        expected = reference.sample_crps(samples[i, :, j].tolist(), target[i, j].item(), fair=fair)
        assert given[i, j].item() == pytest.approx(expected, abs=1e-12)


def test_sample_crps_of_many_draws_approaches_the_closed_form_and_one_draw_scores_its_distance():
    draws = Normal(0.4, 0.1).sample((1, 4000)).double()
    target = torch.tensor([0.55], dtype=torch.float64)
    closed = gaussian_crps(torch.tensor(0.4), torch.tensor(0.01), torch.tensor(0.55))
    assert sample_crps(draws, target).item() == pytest.approx(closed.item(), rel=0.05)
    assert sample_crps(torch.tensor([[0.3]]), torch.tensor([0.7])).item() == pytest.approx(0.4)


def test_half_widths_hold_the_share_they_are_asked_for():
    share = torch.tensor([0.5, 0.9, 0.99], dtype=torch.float64)
    z = FAMILIES["gaussian"].half_width(share)
    torch.testing.assert_close(Normal(0.0, 1.0).cdf(z) * 2 - 1, share)
    width = FAMILIES["laplace"].half_width(share)
    torch.testing.assert_close(Laplace(0.0, torch.tensor(0.5, dtype=torch.float64).sqrt()).cdf(width) * 2 - 1, share)


def test_the_interval_score_is_lowest_for_the_true_quantiles():
    target = torch.randn(20000, generator=torch.Generator().manual_seed(0))
    scores = [interval_score(-torch.tensor(z), torch.tensor(z), target, alpha=0.1).mean() for z in (1.2, 1.645, 2.2)]
    assert scores[1] < min(scores[0], scores[2])


def test_errors_name_what_does_not_fit():
    mean = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="family='cauchy' must be one of laplace, gaussian"):
        family_of("cauchy")
    for alpha in (0, 1):
        with pytest.raises(ValueError, match=f"alpha={alpha}"):
            interval_score(mean, mean, mean, alpha=alpha)
    for samples, target in (((2, 3, 4), (2, 5)), ((2, 3, 4), (3, 4)), ((2, 3), (2, 3))):
        with pytest.raises(ValueError, match=r"must be \(B, n, \.\.\.\)"):
            sample_crps(torch.zeros(samples), torch.zeros(target))


def test_interval_scores_of_hand_computed_cases():
    lower, upper = torch.full((3,), 0.2), torch.full((3,), 0.5)
    given = interval_score(lower, upper, torch.tensor([0.1, 0.3, 0.9]), alpha=0.5)
    assert given.tolist() == pytest.approx([0.3 + 4 * 0.1, 0.3, 0.3 + 4 * 0.4])


def test_distributions_without_width_score_the_distance_from_their_mean():
    mean, target = torch.tensor([0.3, 0.3]), torch.tensor([0.5, 0.1])
    for crps in (gaussian_crps, laplace_crps):
        assert crps(mean, torch.zeros(2), target).tolist() == pytest.approx([0.2, 0.2])


def test_the_crps_of_samples_is_fair_unless_told_otherwise():
    samples, target = torch.tensor([[0.0, 1.0]]), torch.tensor([0.0])
    assert sample_crps(samples, target).item() == sample_crps(samples, target, fair=True).item() == 0
    assert sample_crps(samples, target, fair=False).item() == 0.25


@pytest.mark.parametrize(("name", "factor", "half"), [("laplace", 2.0, 1.6282), ("gaussian", 1.0, 1.6449)])
def test_families_have_their_variance_and_the_intervals_of_90_percent(name, factor, half):
    family = family_of(name)
    assert family.variance_factor == factor
    assert family.half_width(torch.tensor(0.9)).item() == pytest.approx(half, abs=1e-4)
    z, log_scale = torch.tensor(1.5), torch.tensor(-0.7)
    variance = factor * (2 * log_scale).exp()
    expected = family.nll(torch.tensor(0.0), variance, z * log_scale.exp())
    torch.testing.assert_close(family.standard_nll(z, log_scale), expected)
