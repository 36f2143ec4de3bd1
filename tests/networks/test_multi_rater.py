from __future__ import annotations

import pytest
import torch
from monai.networks.nets import BasicUNet
from noisy_network import Logits, Noisy
from torch import nn

from monai_ext.networks.ensembles import DeepEnsemble, MonteCarloDropout
from monai_ext.networks.hierarchical_unet import HierarchicalUNet
from monai_ext.networks.latent_unet import LatentUNet
from monai_ext.networks.multi_rater import (
    ConditionedHeads,
    ConsensusNet,
    LevelSetNet,
    OrderedHeads,
    RaterEnsemble,
    RaterHeads,
    draw_heads,
    level_sets,
)
from monai_ext.networks.rater_sampler import SYMMETRIES, RaterSampler
from monai_ext.networks.stochastic_segmentation import StochasticSegmentation


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def conditioned(features: int = 4, raters: int = 3) -> ConditionedHeads:
    """With residuals that are not zero, as after training."""
    network = ConditionedHeads(nn.Conv2d(1, features, 3, padding=1), features=features, raters=raters)
    nn.init.normal_(network.residual.weight)
    return network


class Features(nn.Conv2d):
    """Four features of an image."""

    def __init__(self):
        super().__init__(1, 4, 3, padding=1)


def every_sampler() -> list[nn.Module]:
    torch.manual_seed(0)
    return [
        ConsensusNet(Noisy()),
        LevelSetNet(Noisy()),
        OrderedHeads(Noisy()),
        RaterHeads(Noisy()),
        conditioned(),
        RaterEnsemble([Noisy(), Noisy(), Noisy()]),
        LatentUNet(Features(), features=4),
        HierarchicalUNet(Features(), features=4, width=4),
        StochasticSegmentation(Features(), features=4),
        DeepEnsemble([LevelSetNet(Noisy()), LevelSetNet(Noisy())]),
        MonteCarloDropout(ConsensusNet(Noisy())),
        MonteCarloDropout(OrderedHeads(Noisy())),
        DeepEnsemble([MonteCarloDropout(ConsensusNet(Noisy())), OrderedHeads(Noisy())]),
    ]


@pytest.mark.parametrize("network", every_sampler(), ids=lambda network: type(network).__name__)
def test_every_baseline_keeps_the_promises_of_a_sampler(network):
    image = torch.randn(2, 1, 5, 7)
    network.train()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()  # frozen by the user: must stay so
    modes = [layer.training for layer in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    draws = network.sample(image, 4, generator=generator(3))
    assert isinstance(network, RaterSampler)
    assert draws.shape == (2, 4, 5, 7) and draws.dtype == torch.float32 and not draws.requires_grad
    assert 0 <= draws.min() and draws.max() <= 1
    assert [layer.training for layer in network.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert torch.equal(draws, network.sample(image, 4, generator=generator(3)))
    found = network.predict(image, 4, generator=generator(3), symmetries=SYMMETRIES)
    assert found.share.shape == (2, 1, 5, 7) and found.samples.shape == draws.shape
    assert (found.heads is not None) == network.per_rater
    with pytest.raises(ValueError, match="n=0 must be at least 1"):
        network.sample(image, 0)


def test_whole_rounds_show_every_head_equally_often_in_order_without_chance():
    probability = torch.rand(2, 3, 1, 2)
    state = torch.get_rng_state()
    assert torch.equal(draw_heads(probability, 6), torch.cat([probability, probability], dim=1))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_remaining_draws_are_different_heads_drawn_for_each_case():
    heads = torch.arange(5.0)[None, :, None, None].expand(40, 5, 1, 1)
    draws = draw_heads(heads, 7, generator=generator())[..., 0, 0]
    assert torch.equal(draws[:, :5], torch.arange(5.0).expand(40, 5))
    assert (draws[:, 5] != draws[:, 6]).all()
    assert len(torch.unique(draws[:, 5:], dim=0)) > 10  # of 20 ordered pairs


def test_fewer_draws_than_heads_are_all_different_and_each_head_has_its_turn():
    heads = torch.arange(4.0)[None, :, None, None].expand(400, 4, 1, 1)
    draws = draw_heads(heads, 1, generator=generator())[:, 0, 0, 0]
    assert draws.long().bincount().min() > 60  # 100 expected


def test_a_consensus_is_the_same_probability_n_times():
    image = torch.tensor([[[[0.0, 2.0]]]])
    draws = ConsensusNet(Logits()).sample(image, 3)
    torch.testing.assert_close(draws, torch.tensor([0.5, 0.880797])[None, None, None].expand(1, 3, 1, 2))


def test_level_sets_are_nested_masks_whose_mean_is_the_probability():
    probability = torch.tensor([0.0, 0.1, 0.3, 0.5, 0.8, 1.0])
    draws = LevelSetNet(Logits()).sample(probability.logit(eps=1e-7)[None, None, None], 4)[0, :, 0]
    # levels 1/8, 3/8, 5/8, 7/8
    expected = [[0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1]]
    assert draws.tolist() == expected
    assert (draws.mean(0) - probability).abs().max() <= 1 / 8 + 1e-6


def test_the_spread_of_level_sets_moves_the_levels_on_the_logit_scale():
    probability = torch.tensor([0.3, 0.45, 0.6])[None, None, None]
    # logit(1/4) = -1.0986: halved, the levels are 0.366 and 0.634; doubled, 0.1 and 0.9
    assert level_sets(probability, 2, spread=0.5)[0, :, 0].tolist() == [[0, 1, 1], [0, 0, 0]]
    assert level_sets(probability, 2, spread=2.0)[0, :, 0].tolist() == [[1, 1, 1], [0, 0, 0]]
    assert torch.equal(level_sets(probability, 3, spread=0.0), (probability > 0.5).float().expand(1, 3, 1, 3))
    with pytest.raises(ValueError, match="spread=-1"):
        LevelSetNet(Logits(), spread=-1)


def test_ordered_heads_answer_with_the_level_sets_of_their_mean():
    network = OrderedHeads(Logits(out_channels=3))
    image = torch.tensor([[[[-2.0, 2.0]]]])
    share = network.share(network.maps(image))
    torch.testing.assert_close(share, image.sigmoid())
    assert torch.equal(network.sample(image, 4), level_sets(share, 4)) and not network.per_rater


@pytest.mark.parametrize("network", every_sampler(), ids=lambda network: type(network).__name__)
def test_samples_do_not_depend_on_the_size_of_the_batch(network):
    image = torch.randn(4, 1, 6, 6)
    together = network.sample(image, 5, generator=generator(1))
    source = generator(1)
    torch.testing.assert_close(
        torch.cat([network.sample(part, 5, generator=source) for part in image.split(3)]), together
    )


def test_rater_ensemble_puts_the_map_of_network_r_in_channel_r():
    image = torch.randn(2, 1, 3, 4)
    ensemble = RaterEnsemble([Logits(1.0), Logits(-2.0)])
    torch.testing.assert_close(ensemble(image), torch.cat([image, -2 * image], dim=1))
    torch.testing.assert_close(ensemble.sample(image, 2), torch.cat([image, -2 * image], dim=1).sigmoid())
    assert ensemble.per_rater


def test_heads_with_a_spread_are_sampled_as_level_sets_of_each():
    network, maps = RaterHeads(Logits(out_channels=2)), torch.tensor([[[[0.3, 0.9]], [[0.4, 0.55]]]])
    network.spread = 1.0
    # levels 1/6, 3/6, 5/6 of the first head, 1/4 and 3/4 of the second
    expected = [[1, 1], [0, 1], [0, 1], [1, 1], [0, 0]]
    assert network.draw(maps, 5)[0, :, 0].tolist() == expected
    assert torch.equal(network.draw(maps, 2), (maps > 0.5).float())  # one level, 1/2
    assert network.draw(maps, 1).shape == (1, 1, 1, 2)
    network.spread = 0.0
    assert torch.equal(network.draw(maps, 2), maps)


def test_conditioned_heads_agree_with_a_loop_over_raters():
    torch.manual_seed(0)
    network, image = conditioned().double(), torch.randn(2, 1, 5, 6, dtype=torch.double)
    features = network.network(image)
    weight, bias = network.common.weight[0, :, 0, 0], network.common.bias
    common = sum(weight[i] * f.clamp(min=0) for i, f in enumerate(features.unbind(1))) + bias
    rows = torch.cat([features, features[:, :, -1:]], dim=2)  # 5 rows become 6
    pooled = sum(rows[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4
    upsample = nn.Upsample(scale_factor=2, mode="bilinear")
    for r, logits in enumerate(network(image).unbind(1)):
        numbers = network.modulation.weight @ network.embedding.weight[r] + network.modulation.bias
        modulated = torch.stack([f * (1 + numbers[i]) + numbers[4 + i] for i, f in enumerate(pooled.unbind(1))], dim=1)
        residual = upsample(network.residual(modulated.clamp(min=0)))
        torch.testing.assert_close(logits, common + residual[:, 0, :5])


def test_conditioned_heads_begin_with_one_common_answer_and_learn_to_differ():
    torch.manual_seed(0)
    network, image = ConditionedHeads(nn.Conv2d(1, 4, 3, padding=1), features=4, raters=3), torch.randn(2, 1, 6, 6)
    logits = network(image)
    assert torch.equal(logits, logits[:, :1].expand(-1, 3, -1, -1)) and logits.mean() < -2
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    target = torch.arange(3.0)[None, :, None, None].expand(2, 3, 6, 6) - 1
    losses = []
    for _ in range(100):
        loss = (network(image) - target).square().mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.3 < losses[0]  # one map for all has 2 / 3 at best


def test_a_rater_without_masks_shares_all_but_the_embedding():
    network = conditioned()
    network(torch.randn(1, 1, 4, 4))[:, 0].sum().backward()
    gradient = network.embedding.weight.grad
    assert gradient[0].abs().sum() > 0 and not gradient[1:].any()
    assert sum(p.numel() for p in network.parameters()) == (9 + 1) * 4 + 5 + 3 * 8 + 9 * 8 + (9 * 4 + 1)


def test_one_raters_loss_leaves_the_other_networks_alone():
    ensemble = RaterEnsemble([Logits(1.0), Logits(-2.0)])
    ensemble(torch.ones(1, 1, 2, 2))[:, 1].sum().backward()
    assert ensemble.networks[0].scale.grad == 0 and ensemble.networks[1].scale.grad == 4


def test_an_ensemble_of_one_object_twice_or_of_nothing_is_refused():
    network = Logits()
    for networks in ([network, network], []):
        with pytest.raises(ValueError, match="RaterEnsemble got .* build each one by itself"):
            RaterEnsemble(networks)


def test_networks_with_several_maps_are_refused():
    image = torch.randn(1, 1, 2, 2)
    for network in (ConsensusNet(Logits(out_channels=2)), RaterEnsemble([Logits(out_channels=2)])):
        with pytest.raises(ValueError, match="one logit map per network, got 2"):
            network.sample(image, 1)


def test_monais_networks_serve_as_parts():
    networks = [BasicUNet(2, 1, 1, features=(4, 4, 4, 4, 4, 4), dropout=0.2) for _ in range(2)]
    image = torch.randn(1, 1, 32, 32)
    assert RaterEnsemble(networks).sample(image, 4).shape == (1, 4, 32, 32)
    draws = MonteCarloDropout(ConsensusNet(networks[0])).sample(image, 2)
    assert not torch.equal(draws[:, 0], draws[:, 1])
