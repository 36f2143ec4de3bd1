from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from monai_ext.losses import (
    ELBOLoss,
    latent_kl,
    samples_alike,
)


def gaussian(batch: int = 3, latent: int = 6, *, seed: int = 0) -> Tensor:
    return torch.randn(batch, 2, latent, generator=torch.Generator().manual_seed(seed))


def as_distribution(tensor: Tensor) -> Normal:
    return Normal(tensor[:, 0], tensor[:, 1].exp())


def output_and_target(seed: int = 0, shape=(3, 1, 4, 5)) -> tuple[dict[str, Tensor], Tensor]:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=draw)
    mask = (torch.rand(shape, generator=draw) > 0.5).to(torch.uint8)
    return {"logits": logits, "prior": gaussian(seed=seed), "posterior": gaussian(seed=seed + 1)}, mask


def test_divergence_agrees_with_torch_distributions():
    prior, posterior = gaussian(seed=0), gaussian(seed=1)
    expected = kl_divergence(as_distribution(posterior), as_distribution(prior))
    torch.testing.assert_close(latent_kl(prior, posterior), expected)


def test_divergence_by_hand():
    prior = torch.tensor([[[0.0], [math.log(2)]]])  # N(0, 2^2)
    posterior = torch.tensor([[[2.0], [0.0]]])  # N(2, 1)
    assert latent_kl(prior, posterior).item() == pytest.approx(math.log(2) + (1 + 4) / 8 - 0.5)


def test_divergence_is_zero_for_equals_positive_otherwise_and_not_symmetric():
    p, q = gaussian(seed=0), gaussian(seed=1)
    assert latent_kl(p, p).abs().max() == 0
    assert (latent_kl(p, q) > 0).all()
    assert not torch.allclose(latent_kl(p, q), latent_kl(q, p))


def test_divergence_and_gradient_stay_finite_for_the_narrowest_and_widest_gaussians():
    for p_log, q_log in ((-8.0, 8.0), (8.0, -8.0), (-8.0, -8.0)):
        prior = torch.tensor([[[0.0], [p_log]]], requires_grad=True)
        posterior = torch.tensor([[[3.0], [q_log]]], requires_grad=True)
        value = latent_kl(prior, posterior).sum()
        value.backward()
        assert value.isfinite() and prior.grad.isfinite().all() and posterior.grad.isfinite().all()


def test_divergence_of_other_shapes_is_refused():
    with pytest.raises(ValueError, match=r"must be \(B, 2, latent\)"):
        latent_kl(torch.zeros(2, 2, 6), torch.zeros(2, 2, 5))
    with pytest.raises(ValueError, match=r"must be \(B, 2, latent\)"):
        latent_kl(torch.zeros(2, 6), torch.zeros(2, 6))


def test_bound_agrees_with_torch_distributions():
    output, mask = output_and_target()
    likelihood = torch.distributions.Bernoulli(logits=output["logits"]).log_prob(mask.float()).sum(dim=(1, 2, 3))
    p, q = (Independent(as_distribution(output[name]), 1) for name in ("prior", "posterior"))
    expected = -(likelihood - 2.5 * kl_divergence(q, p)).mean()
    torch.testing.assert_close(ELBOLoss(2.5)(output, mask), expected)


def test_cross_entropy_is_summed_over_pixels_and_averaged_over_the_batch():
    output, mask = output_and_target()
    loss = ELBOLoss(beta=0)
    wide = output | {"logits": torch.cat([output["logits"]] * 2, dim=3)}
    torch.testing.assert_close(loss(wide, torch.cat([mask] * 2, dim=3)), 2 * loss(output, mask))
    long = {name: torch.cat([value] * 2) for name, value in output.items()}
    torch.testing.assert_close(loss(long, torch.cat([mask] * 2)), loss(output, mask))


def test_terms_are_given_case_by_case_without_beta():
    output, mask = output_and_target()
    loss = ELBOLoss(3.0, free_nats=5.0)
    reconstruction, kl = loss.terms(output, mask)
    assert reconstruction.shape == (3,) and kl.shape == (3, 6)
    expected = F.binary_cross_entropy_with_logits(output["logits"][1], mask[1].float(), reduction="sum")
    torch.testing.assert_close(reconstruction[1], expected)
    torch.testing.assert_close(kl, latent_kl(output["prior"], output["posterior"]))


def test_beta_can_be_raised_during_training():
    output, mask = output_and_target()
    loss = ELBOLoss(0.0)
    without = loss(output, mask)
    loss.set_beta(0.5)
    kl = latent_kl(output["prior"], output["posterior"]).sum(1).mean()
    torch.testing.assert_close(loss(output, mask), without + 0.5 * kl)


def test_free_nats_are_a_floor_for_each_number_of_the_latent_averaged_over_the_batch():
    output, mask = output_and_target()
    zero = torch.zeros(2, 2, 3)
    posterior = zero.clone()
    posterior[:, 0] = torch.tensor([[0.0, 2.0, 0.2], [0.0, 0.0, 0.2]])  # divergences mu^2 / 2, means 0, 1 and 0.02
    posterior.requires_grad_()
    output = {"logits": torch.full((2, 1, 1, 1), 0.0), "prior": zero, "posterior": posterior}
    mask = torch.ones(2, 1, 1, 1)
    value = ELBOLoss(free_nats=0.5)(output, mask)
    assert value.item() == pytest.approx(math.log(2) + 0.5 + 1.0 + 0.5)
    value.backward()
    # only the second number, whose mean is above the floor although one case of it is at zero, is pulled
    assert posterior.grad[:, 0].tolist() == [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_bound_is_computed_in_float32_from_half_precision():
    output, mask = output_and_target()
    half = {name: value.bfloat16() for name, value in output.items()}
    widened = {name: value.float() for name, value in half.items()}
    torch.testing.assert_close(ELBOLoss()(half, mask), ELBOLoss()(widened, mask), rtol=0, atol=0)


def test_a_plain_prediction_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"call network\(image, mask=...\) in training"):
        ELBOLoss()(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))


def test_a_target_of_another_shape_is_refused():
    output, mask = output_and_target()
    with pytest.raises(ValueError, match=r"target \(3, 4, 5\) and logits \(3, 1, 4, 5\)"):
        ELBOLoss()(output, mask[:, 0])


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_impossible_weights_of_the_divergence_are_refused(value):
    loss = ELBOLoss()
    with pytest.raises(ValueError, match="beta="):
        loss.set_beta(value)
    with pytest.raises(ValueError, match="free_nats="):
        ELBOLoss(free_nats=value)


def test_draws_are_alike_by_hand():
    # p = 1, 0.5 in one pixel: q = 0.75, total 3/16, between 1/16, within 1/8
    assert samples_alike(torch.tensor([[[[1.0]], [[0.5]]]])).item() == pytest.approx((1 / 8) / (3 / 16))


def test_draws_that_are_equal_are_alike_and_certain_ones_that_differ_are_not():
    grey = torch.rand(2, 1, 3, 3).expand(-1, 5, -1, -1)
    torch.testing.assert_close(samples_alike(grey), torch.ones(2))
    sure = torch.tensor([[[[1.0, 0.0]], [[1.0, 1.0]]]])
    assert samples_alike(sure).item() == 0
    assert samples_alike(torch.ones(1, 3, 2, 2)).item() == 1  # certain and equal


def test_likeness_lies_between_zero_and_one_and_does_not_see_the_order_of_draws():
    draws = torch.rand(4, 6, 3, 3, generator=torch.Generator().manual_seed(0))
    alike = samples_alike(draws)
    assert (alike > 0).all() and (alike < 1).all()
    torch.testing.assert_close(samples_alike(draws.flip(1)), alike)


def test_a_single_draw_cannot_be_alike():
    with pytest.raises(ValueError, match="n >= 2"):
        samples_alike(torch.rand(1, 1, 2, 2))


def test_without_divergence_the_default_is_the_reconstruction_alone():
    output, mask = output_and_target()
    same = output | {"posterior": output["prior"]}
    loss = ELBOLoss()
    torch.testing.assert_close(loss(same, mask), loss.terms(same, mask).reconstruction.mean(), rtol=0, atol=0)
    assert loss.beta == 1.0
