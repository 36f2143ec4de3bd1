"""Small networks trained on synthetic scenes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from uncertain_toys import TINY, Toy, scenes

from monai_ext.commands.uncertainty.phantom_training import scene_deviations, train_on_scenes
from monai_ext.networks.uncertain_sr import WeightEnsemble
from monai_ext.networks.variational import DropoutConv2d, VariationalConv2d


def test_parts_of_a_scene_are_those_of_its_members_and_a_part_that_is_not_there_is_nearly_zero():
    low_res = torch.zeros(2, 1, 32, 32)
    apart = WeightEnsemble([Toy(0.2, 0.1), Toy(0.6, 0.1)])
    draws = {"weight_samples": 2, "latent_samples": 8, "generator": torch.Generator().manual_seed(0)}
    parts = scene_deviations(apart, low_res, **draws)
    assert parts["aleatoric"].tolist() == pytest.approx([0.2] * 2)
    assert parts["ambiguity"].tolist() == pytest.approx([0.1] * 2, rel=0.05)
    assert parts["epistemic"].tolist() == pytest.approx([0.4 / 2**0.5] * 2, rel=0.05)
    alike = WeightEnsemble([Toy(0.2, 0.1), Toy(0.2, 0.1)])
    whole = scene_deviations(alike, low_res, **draws)["epistemic"]
    by_pixel = alike.uncertainty(
        low_res, weight_samples=2, latent_samples=8, generator=torch.Generator().manual_seed(0)
    )
    pixels = by_pixel["epistemic"].flatten(1).mean(1).sqrt()
    assert (whole < 0.01).all() and (pixels > 0.018).all()  # a fifth of the ambiguity, made of chance alone


def test_training_is_replayed_by_its_seed_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (train_on_scenes(scenes(), TINY, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before) and not first.training
    weights = [torch.cat([p.flatten() for p in network.parameters()]) for network in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_networks_say_less_noise_where_there_was_none_to_learn_and_have_the_weights_asked_for():
    plan = replace(TINY, steps=30, learning_rate=3e-3)
    flat = torch.rand(4, 3, 1, 1, generator=torch.Generator().manual_seed(0)).expand(-1, -1, 32, 32)

    def noise(network):
        return scene_deviations(network, plan.degradation(flat), latent_samples=2, weight_samples=1)["aleatoric"].mean()

    torch.manual_seed(0)
    start, learnt = plan.network().eval(), train_on_scenes(flat, plan)
    assert noise(learnt) < 0.97 * noise(start)
    for weights, layer in (("dropout", DropoutConv2d), ("variational", VariationalConv2d), ("none", nn.Conv2d)):
        network = train_on_scenes(scenes(), replace(TINY, weights=weights, steps=1))
        assert type(network.generator.blocks[0].conv1) is layer
        assert (network.distinct_weights() is None) == (weights != "none")
