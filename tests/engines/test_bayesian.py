"""The trainer of networks with a latent against plain PyTorch."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from ignite.engine import Events
from latent_toys import Pairs, networks
from torch import nn

from monai_ext.engines.adversarial import Adversary
from monai_ext.engines.bayesian import BayesianAdversarialTrainer, PrepareSuperResolution
from monai_ext.losses.super_resolution_elbo import SuperResolutionELBO
from monai_ext.networks.variational import VariationalConv2d, weight_divergence


def trainer(network, discriminator, *, epochs: int = 1, weight: float = 1e-3, **options) -> BayesianAdversarialTrainer:
    defaults = {
        "pretrain_epochs": 0,
        "image_losses": {},
        "precision": "fp32",
        "train_data_loader": Pairs(),
        "optimizer": torch.optim.SGD(network.parameters(), 0.1),
        "loss_function": SuperResolutionELBO(0.5, elbo_weight=0.1, energy_weight=2.0),
    }
    adversary = Adversary(discriminator, torch.optim.SGD(discriminator.parameters(), 0.05), weight=weight)
    return BayesianAdversarialTrainer("cpu", epochs, network=network, adversary=adversary, **(defaults | options))


def by_hand(network: nn.Module, discriminator: nn.Module, *, adversarial: bool) -> None:
    """Both turns in plain PyTorch, the divergence and the likelihood written out."""
    loss_function = SuperResolutionELBO(0.5, elbo_weight=0.1, energy_weight=2.0)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    rival = torch.optim.SGD(discriminator.parameters(), 0.05)
    for batch in Pairs():
        low, high = batch["image"], batch["label"]
        answer = network.train()(low, high_res=high, samples=2)
        loss = loss_function(answer, high) + 0.7 * (answer["samples"] - high[:, None]).square().mean()
        if adversarial:
            loss = loss + 0.3 * (answer["mean"] - high).abs().mean()
            loss = loss + 0.2 * F.softplus(-discriminator(answer["samples"][:, 0])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if adversarial:
            fake = answer["samples"][:, 0].detach()
            loss = F.softplus(-discriminator(high)).mean() + F.softplus(discriminator(fake)).mean()
            rival.zero_grad()
            loss.backward()
            rival.step()


@pytest.mark.parametrize("adversarial", [False, True])
def test_each_stage_takes_the_steps_of_plain_pytorch(adversarial):
    network, discriminator = networks()
    with torch.no_grad():  # samples differ only after that
        for layer in (network.texture[-1], network.generator.tail[0]):
            layer.weight.normal_(0, 0.1)
        for weight in discriminator.parameters():  # as initialised it hardly depends on the image
            weight.mul_(4)
    plain = copy.deepcopy(network), copy.deepcopy(discriminator)
    run = trainer(
        network,
        discriminator,
        pretrain_epochs=0 if adversarial else 1,
        image_losses={"pixel": (0.3, nn.L1Loss()), "content": (1.0, None)},
        sample_losses={
            "set": (0.7, lambda samples, target: (samples - target[:, None]).square().mean()),
            "no": (1, None),
        },
        weight=0.2,
    )
    torch.manual_seed(3)
    run.run()
    torch.manual_seed(3)
    by_hand(*plain, adversarial=adversarial)
    for trained, expected in zip((network, discriminator), plain, strict=True):
        for (name, value), other in zip(trained.named_parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-6, msg=name)
    own = {"likelihood", "kl", "energy", "set", "kl_00", "kl_01", "sample_distance", "sample_error"}
    rest = {"pixel", "adversarial", "discriminator", "real_score", "fake_score"} if adversarial else set()
    assert set(run.state.output["terms"]) == own | rest
    assert run.state.output["pred"].shape == (2, 3, 16, 16) and not run.state.output["pred"].requires_grad


def test_variational_weights_pay_for_their_divergence():
    network, discriminator = networks(VariationalConv2d)
    run = trainer(network, discriminator, pretrain_epochs=1, weight_prior=1e-3)
    expected = weight_divergence(network)
    values = []
    run.add_event_handler(
        Events.ITERATION_COMPLETED(once=1), lambda e: values.append(e.state.output["terms"]["weights"])
    )
    run.run()
    torch.testing.assert_close(values[0], expected.detach())
    assert weight_divergence(network) < expected
    weighed = trainer(network, discriminator, pretrain_epochs=1, weight_prior=None)
    weighed.run()
    assert weighed.weight_prior == 0.1 / (4 * 3 * 16 * 16)  # elbo_weight over all values
    with pytest.raises(ValueError, match="weight_prior=-1"):
        trainer(network, discriminator, weight_prior=-1)


def test_the_batch_is_prepared_with_the_truth_and_the_number_of_samples():
    batch = Pairs().batches[0]
    low, high, args, options = PrepareSuperResolution(3)(batch, "cpu")
    assert args == () and options["samples"] == 3 and torch.equal(options["high_res"], high)
    assert torch.equal(low, batch["image"]) and torch.equal(high, batch["label"])
