from __future__ import annotations

import pytest
import torch

from monai_ext.losses.psnr import PSNRLoss


def test_psnr_loss_is_the_negative_score_of_each_image():
    target = torch.full((2, 3, 4, 4), 0.5)
    prediction = target + torch.tensor([0.1, 0.01])[:, None, None, None]  # errors of 20 and 40 dB
    assert PSNRLoss(floor=1e-12)(prediction, target) == pytest.approx(-30.0, abs=1e-4)
    assert PSNRLoss()(target, target) == pytest.approx(-60.0, abs=1e-4)


def test_psnr_loss_speaks_as_loud_for_easy_images_and_stays_finite():
    torch.manual_seed(0)
    target = torch.rand(2, 1, 8, 8)
    noise = torch.randn(1, 1, 8, 8)
    prediction = (target + torch.tensor([0.1, 0.01])[:, None, None, None] * noise).requires_grad_()
    PSNRLoss(floor=1e-12)(prediction, target).backward()
    hard, easy = prediction.grad.flatten(1).norm(dim=1)
    assert easy / hard == pytest.approx(10.0, rel=1e-3)  # per unit of error: both gain as many dB
    perfect = target.clone().requires_grad_()
    PSNRLoss()(perfect, target).backward()
    assert torch.equal(perfect.grad, torch.zeros_like(target))


def test_psnr_loss_names_wrong_input():
    with pytest.raises(ValueError, match="floor=0 must be above 0"):
        PSNRLoss(floor=0)
    with pytest.raises(ValueError, match="differ in shape"):
        PSNRLoss()(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5))
