from __future__ import annotations

import math

import pytest
import torch

from monai_ext.losses.energy import patch_distance, patch_energy


def energy_score(samples: torch.Tensor, target: torch.Tensor, *, patch: int = 8) -> torch.Tensor:
    error, distance = patch_energy(samples, target, patch=patch)
    return error - distance / 2


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
    score = energy_score(samples, target, patch=2)
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
        return energy_score(draws, target, patch=4).mean().item()

    own = mean_score(0.5, 0.0)
    grey = energy_score(torch.full((count, 2, *shape), 0.5), target, patch=4).mean().item()
    assert own == pytest.approx(0.25, abs=0.02) and grey == pytest.approx(0.5, abs=1e-3)
    assert own < min(mean_score(0.1, 0.0), mean_score(0.9, 0.0), mean_score(0.5, 0.3))


def test_the_slope_of_the_energy_score_is_finite_for_equal_images():
    samples = torch.zeros(1, 2, 1, 4, 4, requires_grad=True)
    energy_score(samples, torch.zeros(1, 1, 4, 4), patch=4).sum().backward()
    assert samples.grad.isfinite().all()


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: patch_distance(*torch.zeros(2, 1, 1, 6, 8), patch=4), "6 x 8 pixels does not divide into patches"),
        (lambda: patch_distance(*torch.zeros(2, 1, 1, 8, 6), patch=4), "8 x 6 pixels does not divide into patches"),
        (lambda: patch_distance(*torch.zeros(2, 1, 1, 8, 6), patch=0), "does not divide into patches of 0"),
        (lambda: patch_distance(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 8)), "and alike"),
        (lambda: energy_score(torch.zeros(1, 1, 1, 4, 4), torch.zeros(1, 1, 4, 4)), "n >= 2"),
    ],
)
def test_mistakes_are_named(action, message):
    with pytest.raises(ValueError, match=message):
        action()


def test_patches_of_eight_pixels_are_the_default_and_may_be_single_pixels():
    samples, target = torch.rand(2, 3, 1, 16, 8), torch.rand(2, 1, 16, 8)
    torch.testing.assert_close(patch_energy(samples, target), patch_energy(samples, target, patch=8))
    torch.testing.assert_close(patch_distance(samples[:, 0], target), patch_distance(samples[:, 0], target, patch=8))
    single = patch_distance(samples[:, 0], target, patch=1)
    torch.testing.assert_close(single, (samples[:, 0] - target).abs().flatten(1).mean(1), atol=1e-5, rtol=0)
