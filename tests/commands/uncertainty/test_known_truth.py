"""What a network with a latent learns of known modes."""

from __future__ import annotations

import pytest
import torch
from uncertain_toys import Toy

from monai_ext.commands.uncertainty.known_truth import find_modes, interval_coverage, known_modes, train_on_modes
from monai_ext.metrics.sample_sets import set_distances


def test_samples_find_the_modes_of_fields_that_training_never_saw():
    network = train_on_modes(known_modes(24, 0))
    unseen = known_modes(6, 1)
    found = find_modes(network, unseen)
    assert found.recall >= 0.8 and found.samples.shape == (6, 32, 3, 16, 16)
    assert found.near > 0.6  # most samples are of one mode, and no mixture
    assert min(found.shares) > 0.05 and sum(found.shares) == pytest.approx(1)
    assert found.recall_of_one == 0.25
    distances = set_distances(found.samples, unseen.versions)
    assert found.near == pytest.approx((distances.amin(2) < unseen.apart / 2).double().mean().item())


def test_intervals_that_are_twice_too_wide_are_made_to_cover_what_they_promise():
    """Errors have a deviation of 0.1, the network says 0.2: the central half of its distribution holds 82 %."""
    network, reduced = Toy(0.5, 0.0), lambda scenes, generator: scenes[..., ::2, ::2]
    generator = torch.Generator().manual_seed(0)
    calibration, test = (0.5 + 0.1 * torch.randn(50, 1, 32, 32, generator=generator) for _ in range(2))
    rows = interval_coverage(network, reduced, calibration, test, family="gaussian", latent_samples=2)
    assert [row["nominal"] for row in rows] == [0.5, 0.7, 0.8, 0.9, 0.95]
    rows = [rows[0], rows[3]]
    assert [row["before"] for row in rows] == pytest.approx([0.8226, 0.9990], abs=0.005)  # erf(2 z / sqrt(2))
    # conformal risk control asks for (n r + 1) / (n + 1) <= alpha
    assert [row["after"] for row in rows] == pytest.approx(
        [1 - (0.5 * 51 - 1) / 50, 1 - (0.1 * 51 - 1) / 50], abs=0.005
    )
    assert [row["multiplier"] for row in rows] == pytest.approx([0.35, 0.87], abs=0.02)


def test_coverage_before_calibration_is_that_of_the_predicted_family():
    """Errors are Laplace-distributed with just the variance that the network says."""
    network, reduced = Toy(0.5, 0.0), lambda scenes, generator: scenes[..., ::2, ::2]
    scale = torch.tensor(0.2 / 2**0.5)
    torch.manual_seed(0)
    calibration, test = (0.5 + torch.distributions.Laplace(0.0, scale).sample((50, 1, 32, 32)) for _ in range(2))
    rows = interval_coverage(network, reduced, calibration, test, family="laplace", latent_samples=2)
    assert [row["before"] for row in rows] == pytest.approx([0.5, 0.7, 0.8, 0.9, 0.95], abs=0.01)
