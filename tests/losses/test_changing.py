"""A loss that becomes another one."""

from __future__ import annotations

import torch

from monai_ext.losses import ChangingLoss, PSNRLoss


def test_the_progress_decides_between_the_losses():
    loss = ChangingLoss(torch.nn.L1Loss(), PSNRLoss(floor=1e-12, weight=0.01), change=0.6)
    images = torch.full((2, 3, 4, 4), 0.1), torch.zeros(2, 3, 4, 4)
    torch.testing.assert_close(loss(*images), torch.tensor(0.1))
    loss.progress = 0.6
    torch.testing.assert_close(loss(*images), torch.tensor(-0.2))  # 20 dB


def test_gradients_of_the_weighted_psnr_are_about_those_of_l1():
    target = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    norms = []
    for loss in (torch.nn.L1Loss(), PSNRLoss(weight=0.01)):
        prediction = (
            target + 0.05 * torch.randn(target.shape, generator=torch.Generator().manual_seed(1))
        ).requires_grad_()
        loss(prediction, target).backward()
        norms.append(prediction.grad.norm().item())
    assert 0.5 < norms[1] / norms[0] < 2
