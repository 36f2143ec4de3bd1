"""Uncertain convolutions: what they compute in each mode, what a draw of them is, and their divergence."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal, kl_divergence

from monai_ext.networks.srresnet import SRResNet
from monai_ext.networks.variational import (
    DropoutConv2d,
    VariationalConv2d,
    drawn_weights,
    has_uncertain_weights,
    weight_divergence,
)

KINDS = {"dropout": partial(DropoutConv2d, rate=0.3), "variational": VariationalConv2d}
kinds = pytest.mark.parametrize("kind", KINDS)


def layer(kind: str) -> nn.Conv2d:
    torch.manual_seed(0)
    return KINDS[kind](16, 4, 3, padding=1)


@kinds
def test_in_evaluation_it_is_the_plain_convolution_of_its_mean_weights(kind):
    conv, image = layer(kind).eval(), torch.rand(2, 16, 5, 6)
    assert torch.equal(conv(image), F.conv2d(image, conv.weight, conv.bias, padding=1))


@kinds
def test_weights_of_plain_convolutions_load_unchanged(kind):
    torch.manual_seed(0)
    plain = SRResNet(features=16, blocks=1, norm=None)
    uncertain = SRResNet(features=16, blocks=1, norm=None, conv=KINDS[kind])
    missing, unexpected = uncertain.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and all(name.endswith("log_deviation") for name in missing)
    image = torch.rand(1, 3, 6, 7)
    torch.testing.assert_close(uncertain.eval()(image), plain.eval()(image), rtol=0, atol=0)


@kinds
def test_training_answers_differ_and_average_to_the_mean(kind):
    conv, image = layer(kind).train(), torch.rand(1, 16, 4, 4)
    answers = torch.stack([conv(image) for _ in range(1000)])
    assert answers.std(0).min() > 0
    error = (answers.mean(0) - conv.eval()(image)).abs() / (answers.std(0) / math.sqrt(1000))
    assert error.max() < 5


def test_training_draws_one_weight_for_all_places_of_an_image_and_another_for_each_image():
    torch.manual_seed(0)
    conv = VariationalConv2d(3, 4, 3, deviation=1.0).train()
    flat = torch.rand(1, 3, 1, 1).expand(5, 3, 8, 9)
    change = (conv(flat) - conv.eval()(flat))[..., 1:-1, 1:-1]  # five equal images, flat: every place sees the same
    torch.testing.assert_close(change, change[..., :1, :1].expand_as(change), rtol=1e-4, atol=1e-6)
    ones = change[..., 0, 0]
    assert all((ones[i] - ones[j]).abs().max() > 1e-3 for i in range(5) for j in range(i))


def test_training_has_the_variance_of_drawn_weights():
    conv, image = layer("variational"), torch.rand(1, 16, 4, 4)
    with torch.no_grad():
        conv.log_deviation.fill_(math.log(0.1))
        training = torch.stack([conv.train()(image) for _ in range(1000)]).var(0)
    expected = F.conv2d(image.square(), torch.full_like(conv.weight, 0.01), padding=1)
    torch.testing.assert_close(training, expected, rtol=0.25, atol=0)
    draws = torch.stack([F.conv2d(image, conv.draw_weight(), conv.bias, padding=1) for _ in range(1000)]).var(0)
    torch.testing.assert_close(draws, expected, rtol=0.25, atol=0)


def test_a_draw_of_dropout_has_whole_channels_at_zero_and_the_others_scaled_up():
    conv = layer("dropout").eval()
    weight = conv.draw_weight(torch.Generator().manual_seed(1))
    dropped = (weight == 0).all(dim=0).flatten(1).all(1)
    assert 0 < dropped.sum() < 16
    torch.testing.assert_close(weight[:, ~dropped], conv.weight[:, ~dropped] / 0.7)
    share = torch.stack([(conv.draw_weight() == 0)[0, :, 0, 0] for _ in range(500)]).float().mean()
    assert share.item() == pytest.approx(0.3, abs=0.02)


def test_layers_that_read_an_images_bands_drop_none():
    head = DropoutConv2d(3, 8, 3, rate=0.5).train()
    image = torch.rand(1, 3, 5, 5)
    assert torch.equal(head(image), head(image)) and torch.equal(head.draw_weight(), head.weight)
    assert not has_uncertain_weights(head) and has_uncertain_weights(layer("dropout"))


@kinds
def test_inside_the_block_one_draw_holds_and_afterwards_the_mean_is_back_also_after_an_error(kind):
    network = nn.Sequential(layer(kind), nn.PReLU())
    network.eval()
    image = torch.rand(1, 16, 5, 5)
    mean = network(image)
    with drawn_weights(network, torch.Generator().manual_seed(3)):
        first = network(image)
        assert torch.equal(network(image), first) and not torch.equal(first, mean)
    assert torch.equal(network(image), mean)
    with drawn_weights(network, torch.Generator().manual_seed(3)):
        assert torch.equal(network(image), first)
    with pytest.raises(KeyError), drawn_weights(network):
        raise KeyError
    assert torch.equal(network(image), mean)


def test_divergence_is_that_of_torch_distributions():
    conv = VariationalConv2d(4, 3, 3, deviation=0.3, prior=1.5)
    posterior = Normal(conv.weight, conv.log_deviation.exp())
    expected = kl_divergence(posterior, Normal(torch.zeros(()), conv.prior_deviation)).sum()
    torch.testing.assert_close(conv.divergence(), expected)
    torch.testing.assert_close(weight_divergence(nn.Sequential(conv, nn.Conv2d(3, 3, 1))), expected)
    assert weight_divergence(nn.Conv2d(3, 3, 1)) == 0


def test_divergence_alone_pulls_the_weights_to_the_prior():
    torch.manual_seed(0)
    conv = VariationalConv2d(4, 3, 3)
    optimizer = torch.optim.Adam(conv.parameters(), 0.1)
    for _ in range(100):
        optimizer.zero_grad()
        weight_divergence(conv).backward()
        optimizer.step()
    assert conv.weight.abs().max() < 0.05
    torch.testing.assert_close(
        conv.log_deviation.exp(), torch.full_like(conv.weight, conv.prior_deviation), rtol=0.2, atol=0
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DropoutConv2d(16, 4, 3, rate=1.0), "rate=1.0 must be in"),
        (lambda: VariationalConv2d(16, 4, 3, deviation=0.0), "deviation=0.0"),
        (lambda: VariationalConv2d(16, 4, 3, prior=-1.0), "prior=-1.0"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
