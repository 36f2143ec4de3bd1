from __future__ import annotations

import pytest
import torch

from monai_ext.losses import LatticePenalty


def test_a_lattice_is_its_variance_and_noise_or_a_ramp_next_to_nothing():
    torch.manual_seed(0)
    target = torch.rand(2, 3, 64, 48)
    loss = LatticePenalty(4)
    lattice = torch.randn(3, 4, 4)
    expected = lattice.flatten(1).var(1, correction=0).mean().item()
    found = loss(target + lattice.repeat(1, 16, 12), target).item()
    assert found == pytest.approx(expected, rel=1e-4)
    assert loss(target + 1.0, target) < 1e-9
    assert loss(target + torch.randn_like(target), target).item() == pytest.approx(1 / 64, rel=0.2)  # windows of 8 x 8
    assert loss(target + torch.linspace(0, 1, 48), target) < 1e-3  # 3 steps of 1/47 within a square


def test_lattices_that_alternate_between_windows_are_found():
    image = torch.zeros(1, 1, 64, 64)
    image[..., ::4, :32:4] = 1.0
    image[..., ::4, 32::4] = -1.0
    assert LatticePenalty(4)(image, torch.zeros_like(image)) > 0.03


def test_small_images_and_gradients_and_what_is_refused():
    prediction = torch.rand(1, 1, 8, 8, requires_grad=True)
    LatticePenalty(4)(prediction, torch.zeros(1, 1, 8, 8)).backward()
    assert (prediction.grad != 0).all()
    with pytest.raises(ValueError, match="size=1"):
        LatticePenalty(4, size=1)
    with pytest.raises(ValueError, match="8x8 pixels do not divide by scale=3"):
        LatticePenalty(3)(prediction, torch.zeros(1, 1, 8, 8))
