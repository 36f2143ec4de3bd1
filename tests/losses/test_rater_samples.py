"""Losses of networks that learn from their own samples."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from monai_ext.losses.rater_samples import (
    RaterELBOLoss,
    SampleEnergyLoss,
    SampleLikelihoodLoss,
    sample_energy,
    sample_log_likelihood,
)
from monai_ext.losses.raters import ConsensusLoss

BCE = nn.BCEWithLogitsLoss(reduction="none")
SIZES = [(3, 4), (2, 3, 2)]
PRESENCE = torch.tensor([[True, False, True], [True, True, True], [False, False, False]])
sizes = pytest.mark.parametrize("size", SIZES, ids=["2-D", "3-D"])


def output_and_target(size: tuple[int, ...], samples: int = 3, latent: int = 2) -> tuple[dict, dict]:
    torch.manual_seed(0)
    output = {"share": torch.randn(3, 1, *size), "logits": torch.randn(3, samples, *size)}
    output |= {"prior": torch.randn(3, 2, latent), "posterior": torch.randn(3, 3, 2, latent)}
    masks = (torch.rand(3, 3, *size) > 0.5).to(torch.uint8)
    return output, {"masks": masks, "presence": PRESENCE}


def consensus(output: dict, target: dict) -> Tensor:
    return ConsensusLoss(BCE)(output["share"], target)


def pairs(target: dict) -> list[tuple[int, int]]:
    return [(case, r) for case in range(3) for r in range(3) if target["presence"][case, r]]


@sizes
def test_the_bound_agrees_with_torch_distributions_rater_by_rater(size):
    output, target = output_and_target(size)
    reconstruction, divergence = 0.0, torch.zeros(2)
    for case, r in pairs(target):
        likelihood = Bernoulli(logits=output["logits"][case, r]).log_prob(target["masks"][case, r].float())
        reconstruction -= likelihood.mean().item() / 5
        gaussians = [Normal(g[0], g[1].exp()) for g in (output["posterior"][case, r], output["prior"][case])]
        divergence += kl_divergence(*gaussians) / 5
    loss = RaterELBOLoss(BCE, beta=0.3)
    torch.testing.assert_close(
        loss(output, target), consensus(output, target) + reconstruction + 0.3 * divergence.sum()
    )
    free = RaterELBOLoss(BCE, beta=0.3, free_nats=divergence.max().item() + 1)
    floor = 0.3 * 2 * (divergence.max() + 1)
    torch.testing.assert_close(free(output, target), consensus(output, target) + reconstruction + floor)
    terms = loss.terms(output, target)
    case = kl_divergence(*(Normal(g[:, 0], g[:, 1].exp()) for g in (output["posterior"][1], output["prior"][1:2])))
    torch.testing.assert_close(terms.kl[1], case.mean(0))
    assert terms.reconstruction[2] == 0 and not terms.kl[2].any()  # a case without raters
    wide = output | {"prior": output["prior"][:, None].expand(-1, 3, -1, -1)}  # a prior for each rater
    torch.testing.assert_close(loss(wide, target), loss(output, target))


def test_beta_can_be_changed_and_must_be_a_weight():
    loss = RaterELBOLoss(BCE)
    loss.set_beta(0.0)
    output, target = output_and_target((3, 4))
    assert loss(output | {"posterior": output["posterior"] + 9}, target) == loss(output, target)
    with pytest.raises(ValueError, match="beta=-1"):
        loss.set_beta(-1)
    with pytest.raises(ValueError, match="free_nats"):
        RaterELBOLoss(BCE, free_nats=math.inf)


@sizes
def test_the_likelihood_agrees_with_products_over_pixels(size):
    output, target = output_and_target(size, samples=4)
    expected = 0.0
    for case, r in pairs(target):
        likelihoods = [
            math.prod(
                p if y else 1 - p
                for p, y in zip(
                    sample.double().sigmoid().flatten().tolist(),
                    target["masks"][case, r].flatten().tolist(),
                    strict=True,
                )
            )
            for sample in output["logits"][case]
        ]
        value = math.log(sum(likelihoods) / 4)
        assert sample_log_likelihood(output["logits"], target["masks"])[case, r].item() == pytest.approx(
            value, rel=1e-5
        )
        expected -= value / target["masks"][0, 0].numel() / 5
    loss = SampleLikelihoodLoss(BCE, weight=2.0)(output, target)
    assert loss.item() == pytest.approx(consensus(output, target).item() + 2 * expected, rel=1e-5)


def test_the_likelihood_of_thousands_of_pixels_stays_finite():
    logits = 30 * torch.randn(1, 3, 64, 64, requires_grad=True)
    value = sample_log_likelihood(logits, torch.ones(1, 2, 64, 64)).sum()
    value.backward()
    assert value.isfinite()


def jaccard(a: list[float], b: list[float]) -> float:
    most = sum(max(x, y) for x, y in zip(a, b, strict=True))
    return 1 - sum(min(x, y) for x, y in zip(a, b, strict=True)) / most if most else 0.0


@sizes
def test_the_energy_score_agrees_with_loops_over_pairs(size):
    output, target = output_and_target(size, samples=4)
    scores = []
    for case in range(2):
        samples = [sample.sigmoid().flatten().tolist() for sample in output["logits"][case]]
        raters = [target["masks"][case, r].flatten().tolist() for r in range(3) if PRESENCE[case, r]]
        error = sum(jaccard(s, y) for s in samples for y in raters) / (4 * len(raters))
        spread = sum(jaccard(a, b) for a, b in permutations(samples, 2)) / 12
        scores.append(error - spread / 2)
    found = sample_energy(output["logits"].sigmoid(), target["masks"], presence=PRESENCE)
    assert found[:2].tolist() == pytest.approx(scores, rel=1e-5) and found[2].isnan()
    loss = SampleEnergyLoss(BCE, weight=3.0)(output, target)
    assert loss.item() == pytest.approx(consensus(output, target).item() + 3 * sum(scores) / 2, rel=1e-5)
    everybody = sample_energy(output["logits"].sigmoid(), target["masks"])
    torch.testing.assert_close(everybody[1], found[1])


def test_the_energy_score_is_least_for_samples_like_the_raters():
    """Not for samples that are all like their mean, nor for more diverse ones."""
    raters = torch.zeros(1, 4, 1, 12)
    for r in range(4):
        raters[:, r, :, : 4 + r] = 1
    alike = raters.mean(1, keepdim=True).expand(-1, 4, -1, -1)
    wild = torch.zeros_like(raters)
    for i, stop in enumerate((1, 4, 7, 12)):
        wild[:, i, :, :stop] = 1
    score = {
        name: sample_energy(s, raters).item() for name, s in (("raters", raters), ("alike", alike), ("wild", wild))
    }
    assert score["raters"] < score["alike"] and score["raters"] < score["wild"]


@pytest.mark.parametrize("loss", [RaterELBOLoss(BCE), SampleLikelihoodLoss(BCE), SampleEnergyLoss(BCE)])
def test_missing_raters_and_half_precision_are_borne(loss):
    output, target = output_and_target((3, 4))
    output = {name: values.requires_grad_() for name, values in output.items()}
    value = loss({name: values.bfloat16() for name, values in output.items()}, target)
    value.backward()
    gradients = [values.grad for values in output.values() if values.grad is not None]
    assert value.dtype == torch.float32 and all(g.isfinite().all() and not g[2].any() for g in gradients)
    filled = target | {"masks": torch.where(PRESENCE[..., None, None], target["masks"], 1 - target["masks"])}
    other = loss({name: values.bfloat16() for name, values in output.items()}, filled)
    assert torch.equal(other, value)
    nobody = {"masks": target["masks"], "presence": torch.zeros(3, 3)}
    assert loss(output, nobody) == 0 or isinstance(loss, RaterELBOLoss)


def test_outputs_of_other_networks_are_refused_with_the_way_out():
    output, target = output_and_target((3, 4))
    with pytest.raises(ValueError, match=r"call network\(image, target\) in training"):
        SampleEnergyLoss(BCE)(output["logits"], target)
    with pytest.raises(ValueError, match="build the network with a posterior"):
        RaterELBOLoss(BCE)({name: output[name] for name in ("share", "logits")}, target)
