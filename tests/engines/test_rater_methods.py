"""Methods for several raters: networks and losses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_ext.engines.rater_data import rater_cases
from monai_ext.engines.rater_methods import PER_RATER_METHODS, RATER_METHODS, rater_loss, rater_network
from monai_ext.engines.raters import RaterInferer
from monai_ext.formulas.consensus import staple
from monai_ext.losses import ConsensusLoss, PerRaterLoss, majority_label
from monai_ext.networks.rater_sampler import RaterSampler


@pytest.mark.parametrize("method", RATER_METHODS)
def test_every_method_answers_and_learns(method):
    torch.manual_seed(0)
    network = rater_network(method, raters=3, features=2, members=2)
    assert isinstance(network, RaterSampler) and network.per_rater == (method in PER_RATER_METHODS)
    loss = rater_loss(method, [nn.BCEWithLogitsLoss(reduction="none")])
    image, masks = torch.rand(2, 1, 32, 32), (torch.rand(2, 3, 32, 32) > 0.5).float()
    target = {"masks": masks, "presence": torch.ones(2, 3)}
    loss(
        network(image, target) if getattr(network, "learns_from_samples", False) else network(image), target
    ).backward()
    assert sum(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters()) > 10
    network.eval()
    with torch.no_grad():
        answers = RaterInferer(samples=3)(image, network)
    assert answers["samples"].shape == (2, 3, 32, 32) and answers["probability"].shape == (2, 1, 32, 32)
    assert ("heads" in answers) == (method in PER_RATER_METHODS)
    assert all(((maps >= 0) & (maps <= 1)).all() for maps in answers.values())


def test_losses_fit_their_methods():
    losses = [nn.BCEWithLogitsLoss(reduction="none")]
    assert all(isinstance(rater_loss(name, losses), PerRaterLoss) for name in PER_RATER_METHODS)
    assert isinstance(rater_loss("mc_dropout", losses), ConsensusLoss)
    assert rater_loss("majority", losses).consensus is majority_label
    assert rater_loss("soft_label", losses).consensus is not majority_label


def test_a_method_without_heads_may_learn_another_consensus():
    losses = [nn.BCEWithLogitsLoss(reduction="none")]
    masks = (torch.rand(2, 5, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    logits = torch.zeros(2, 1, 8, 8)
    for method in ("majority", "mc_dropout"):
        value = rater_loss(method, losses, target="staple")(logits, {"masks": masks, "presence": torch.ones(2, 5)})
        assert value.item() == pytest.approx(0.6931, abs=1e-4)
    found = rater_loss("soft_label", losses, target="staple").consensus(masks)
    torch.testing.assert_close(found[:, 0], staple(masks.byte()).probability)
    with pytest.raises(ValueError, match="the method ordered learns the raters' own masks"):
        rater_loss("ordered", losses, target="staple")


def test_the_spread_reaches_every_method_that_has_one():
    for method in RATER_METHODS:
        network = rater_network(method, raters=2, features=2, members=2, spread=0.6)
        network = network.members[1] if method.startswith("deep_ensemble") else network
        assert getattr(network, "spread", None) == (None if method in ("mc_dropout", "majority") else 0.6)
    with pytest.raises(ValueError, match="spread=-1"):
        rater_network("conditioned", raters=2, features=2, spread=-1)


def test_the_faithful_network_is_the_published_one():
    count = sum(p.numel() for p in rater_network("holistic_faithful", raters=3, features=64).parameters())
    assert count == 26_077_647


def test_an_unknown_method_is_told_the_known_ones():
    for action in (
        lambda: rater_network("best", raters=2),
        lambda: rater_loss("best", []),
        lambda: rater_cases("nowhere", method="best"),
    ):
        with pytest.raises(ValueError, match="method='best'.*holistic.*mc_dropout"):
            action()
