from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.losses import PatchAdversarialLoss
from torch import nn

from monai_ext.losses.adversarial import LogisticAdversarialLoss, R1Penalty, squared_gradient_norm
from monai_ext.networks.sr_discriminator import SRDiscriminator


def test_logistic_loss_of_hand_computed_cases():
    loss, logits = LogisticAdversarialLoss(), torch.tensor([[0.0], [2.0]])
    real = loss(logits, target_is_real=True, for_discriminator=True).item()
    fake = loss(logits, target_is_real=False, for_discriminator=True).item()
    assert real == pytest.approx((math.log(2) + math.log(1 + math.exp(-2))) / 2)
    assert fake == pytest.approx((math.log(2) + math.log(1 + math.exp(2))) / 2)
    assert loss(logits, target_is_real=True, for_discriminator=False).item() == pytest.approx(real)


def test_label_smoothing_is_cross_entropy_with_the_smoothed_label_for_the_discriminators_real_images_only():
    smooth, plain = LogisticAdversarialLoss(label_smoothing=0.1), LogisticAdversarialLoss()
    logits = torch.randn(5, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    expected = F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, 0.9))
    torch.testing.assert_close(smooth(logits, target_is_real=True, for_discriminator=True), expected)
    for case in (
        {"target_is_real": False, "for_discriminator": True},
        {"target_is_real": True, "for_discriminator": False},
    ):
        torch.testing.assert_close(smooth(logits, **case), plain(logits, **case))


def test_logistic_loss_equals_monais_bce_at_moderate_logits_and_keeps_its_gradient_at_large_ones():
    ours, monais = LogisticAdversarialLoss(), PatchAdversarialLoss(criterion="bce")
    logits = torch.linspace(-3, 3, 7)[:, None]
    for real in (True, False):
        torch.testing.assert_close(ours(logits, real, True), monais(logits, real, True))
    lost = torch.full((1, 1), -200.0, requires_grad=True)  # a discriminator that is sure
    ours(lost, True, False).backward()
    assert lost.grad.item() == pytest.approx(-1)


def test_logistic_loss_is_float32_of_half_precision_logits():
    loss = LogisticAdversarialLoss()(torch.zeros(2, 1, dtype=torch.bfloat16), True, True)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(math.log(2))


def test_monais_least_squares_loss_takes_the_discriminators_logits():
    loss = PatchAdversarialLoss(criterion="least_squares", no_activation_leastsq=True)
    logits = SRDiscriminator(features=4, head="patch")(torch.rand(2, 3, 32, 32))
    expected = (logits - 1).square().mean()
    torch.testing.assert_close(loss(logits, target_is_real=True, for_discriminator=False), expected)


def test_gradient_penalty_of_a_linear_discriminator_is_its_squared_weight():
    weight = torch.randn(1, 12, generator=torch.Generator().manual_seed(0))
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    discriminator[1].weight.data.copy_(weight)
    images = torch.rand(4, 3, 2, 2, requires_grad=True)
    norms = squared_gradient_norm(discriminator(images), images)
    np.testing.assert_allclose(norms.detach().numpy(), [weight.square().sum().item()] * 4, rtol=1e-6)
    assert R1Penalty(gamma=3)(discriminator, images).item() == pytest.approx(1.5 * weight.square().sum().item())


def test_gradient_penalty_of_a_map_of_logits_is_that_of_its_mean():
    images = torch.rand(2, 1, 3, 3, requires_grad=True)
    # logit map 2 x: its mean over 9 places has the gradient 2/9 at each of 9 pixels
    assert squared_gradient_norm(2 * images, images).tolist() == pytest.approx([9 * (2 / 9) ** 2] * 2)


def test_gradient_penalty_agrees_with_finite_differences():
    torch.manual_seed(0)
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    image = torch.rand(1, 3, 2, 2, dtype=torch.float64)
    step = 1e-6 * torch.eye(12, dtype=torch.float64).reshape(12, 3, 2, 2)
    with torch.no_grad():
        slopes = (discriminator(image + step) - discriminator(image - step)) / 2e-6
    image.requires_grad_()
    given = squared_gradient_norm(discriminator(image), image).item()
    assert given == pytest.approx(slopes.square().sum().item(), rel=1e-6)


@pytest.mark.parametrize("head", ["dense", "patch"])
def test_training_on_the_penalty_flattens_the_discriminator_and_leaves_the_images_alone(head):
    torch.manual_seed(0)
    discriminator = SRDiscriminator(features=4, norm=None, head=head, pool=1)
    real = torch.rand(2, 3, 32, 32)
    penalty, optimizer = R1Penalty(gamma=1e4), torch.optim.Adam(discriminator.parameters(), lr=2e-3)
    before = penalty(discriminator, real).item()
    for _ in range(5):
        optimizer.zero_grad()
        penalty(discriminator, real).backward()
        optimizer.step()
    assert 0 < penalty(discriminator, real).item() < 0.7 * before
    assert not real.requires_grad and real.grad is None


def test_penalty_is_computed_in_float32_under_autocast():
    torch.manual_seed(0)
    discriminator, real = SRDiscriminator(features=4, norm=None, pool=1), torch.rand(1, 3, 32, 32)
    expected = R1Penalty()(discriminator, real)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(R1Penalty()(discriminator, real), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LogisticAdversarialLoss(label_smoothing=1.0), r"label_smoothing=1.0 must be in \[0, 1\)"),
        (lambda: LogisticAdversarialLoss()(torch.zeros(1), False, False), "the target of a generator is real"),
        (lambda: R1Penalty(gamma=-1), "gamma=-1 must be finite"),
        (lambda: squared_gradient_norm(torch.zeros(2, 1), torch.zeros(2, 3, 4, 4)), "require a gradient"),
    ],
)
def test_bad_adversarial_settings_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_ten_is_the_default_weight_of_the_penalty():
    assert R1Penalty().gamma == R1Penalty(10.0).gamma == 10
