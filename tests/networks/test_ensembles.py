from __future__ import annotations

import pytest
import torch
from noisy_network import Logits, Noisy
from torch import nn

from monai_ext.networks.ensembles import DeepEnsemble, MonteCarloDropout, ProbabilityEnsemble
from monai_ext.networks.multi_rater import ConsensusNet, LevelSetNet, OrderedHeads, RaterHeads


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_each_member_of_an_ensemble_gives_its_part_of_the_samples_and_all_give_the_share():
    image = torch.randn(2, 1, 3, 4)
    members = [LevelSetNet(Logits(scale)) for scale in (1.0, -2.0, 0.5)]
    for n in (1, 4):
        found = DeepEnsemble(members).predict(image, n)
        counts = [len(range(place, n, 3)) for place in range(3)]
        samples = [member.sample(image, count) for member, count in zip(members, counts, strict=True) if count]
        assert torch.equal(found.samples, torch.cat(samples, dim=1)) and found.samples.shape[1] == n
        shares = [(scale * image).sigmoid() for scale in (1.0, -2.0, 0.5)]
        torch.testing.assert_close(found.share, torch.stack(shares).mean(0))


def test_ensembles_and_dropout_are_of_methods_without_heads():
    for wrap in (lambda network: DeepEnsemble([ConsensusNet(Noisy()), network]), MonteCarloDropout):
        for network in (RaterHeads(Noisy()), Noisy()):
            with pytest.raises(ValueError, match="without a head for each, and .* is none: wrap a plain network"):
                wrap(network)


def test_dropout_of_level_sets_gives_each_pass_a_level_of_its_own():
    network = OrderedHeads(Noisy(p=1e-9)).eval()
    image = torch.randn(1, 1, 6, 6)
    found = MonteCarloDropout(network).predict(image, 4)
    expected = network.predict(image, 4)
    assert torch.equal(found.samples, expected.samples)
    torch.testing.assert_close(found.share, expected.share)


def test_dropout_draws_differ_and_their_mean_comes_near_the_prediction_of_a_linear_network():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(16, 1, 1))
    draws = MonteCarloDropout(ConsensusNet(network)).sample(torch.ones(1, 16, 1, 1), 400, generator=generator())
    logits = draws.logit().flatten()
    expected = network.eval()(torch.ones(1, 16, 1, 1)).item()
    spread = network[1].weight.square().sum().sqrt().item()  # sd of the sum: each term is 0 or 2w, so its sd is |w|
    assert abs(logits.mean().item() - expected) < 4 * spread / 20
    assert logits.std().item() == pytest.approx(spread, rel=0.15)


def test_dropout_draws_use_the_running_statistics_of_batch_norm():
    torch.manual_seed(0)
    network = MonteCarloDropout(ConsensusNet(Noisy(p=1e-9)))  # drops nothing: what remains is evaluation mode
    image = torch.randn(2, 1, 4, 4) + 3
    torch.testing.assert_close(network.train().sample(image, 1), network.eval()(image).sigmoid().detach())


def test_a_generator_for_dropout_leaves_the_global_one_alone():
    network = MonteCarloDropout(ConsensusNet(Noisy()))
    state = torch.get_rng_state()
    network.sample(torch.randn(1, 1, 4, 4, generator=generator()), 2, generator=generator(1))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_network_without_dropout_is_refused():
    for network in (Logits(), Noisy(p=0.0)):
        with pytest.raises(ValueError, match="no dropout layer with p > 0"):
            MonteCarloDropout(ConsensusNet(network))


def test_modes_come_back_after_an_error():
    network = MonteCarloDropout(ConsensusNet(Noisy())).train()
    with pytest.raises(RuntimeError):
        network.sample(torch.randn(1, 3, 4, 4), 2)
    assert all(layer.training for layer in network.modules())


def test_probabilities_are_averaged_and_certain_members_stay_finite():
    image = torch.tensor([[[[-300.0, -2.0, 0.0, 3.0, 300.0]]]])
    members = [Logits(scale) for scale in (1.0, 0.25, -0.5)]
    logits = ProbabilityEnsemble(members)(image)
    mean = sum((scale * image).double().sigmoid() for scale in (1.0, 0.25, -0.5)) / 3
    torch.testing.assert_close(logits.double().sigmoid(), mean, atol=1e-6, rtol=1e-6)
    assert logits.isfinite().all()
    alone = ProbabilityEnsemble(members[:1])(image)
    torch.testing.assert_close(alone, image)
    with pytest.raises(ValueError, match="got 2 networks"):
        ProbabilityEnsemble([members[0], members[0]])
