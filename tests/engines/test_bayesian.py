"""The trainer of networks with a latent against plain PyTorch, its watchers, and what it learns of known modes."""

from __future__ import annotations

import copy
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from torch import nn

from monai_ext.commands.uncertainty.known_truth import find_modes, known_modes, train_on_modes
from monai_ext.engines.adversarial import Adversary
from monai_ext.engines.bayesian import BayesianAdversarialTrainer, PrepareSuperResolution, SampledEvaluator
from monai_ext.handlers.super_resolution.bayesian_health import LatentAlarm, SampleScores
from monai_ext.handlers.super_resolution.methods import load_generator, start_generator, uncertain_network
from monai_ext.losses.energy import patch_energy_score
from monai_ext.losses.super_resolution_elbo import SuperResolutionELBO
from monai_ext.metrics.sample_sets import set_distances
from monai_ext.networks.bayesian_srresnet import BayesianSRResNet
from monai_ext.networks.sr_discriminator import SRDiscriminator
from monai_ext.networks.srresnet import SRResNet
from monai_ext.networks.uncertain_sr import WeightEnsemble
from monai_ext.networks.variational import DropoutConv2d, VariationalConv2d, weight_divergence
from monai_ext.transforms.degradation import Degradation

SCALE = 4


class Pairs:
    """Two batches of two pairs."""

    def __init__(self, size: int = 16):
        generator = torch.Generator().manual_seed(5)
        high = [torch.rand(2, 3, size, size, generator=generator) for _ in range(2)]
        self.batches = [{"image": Degradation(SCALE)(images), "label": images} for images in high]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


def networks(conv=nn.Conv2d) -> tuple[BayesianSRResNet, SRDiscriminator]:
    torch.manual_seed(0)
    generator = SRResNet(features=8, blocks=1, norm=None, residual=True, upsampling="direct", conv=conv)
    built = BayesianSRResNet(generator, Degradation(SCALE), latent_channels=2, texture_blocks=1, conv=conv)
    return built, SRDiscriminator(features=4, norm=None, head="patch")


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
    with pytest.raises(ValueError, match="weight_prior=-1"):
        trainer(network, discriminator, weight_prior=-1)


def test_the_batch_is_prepared_with_the_truth_and_the_number_of_samples():
    batch = Pairs().batches[0]
    low, high, args, options = PrepareSuperResolution(3)(batch, "cpu")
    assert args == () and options["samples"] == 3 and torch.equal(options["high_res"], high)
    assert torch.equal(low, batch["image"]) and torch.equal(high, batch["label"])


# Watchers


def watched(rows: list[dict[str, float]], alarm: LatentAlarm) -> None:
    """An engine of one iteration an epoch whose terms are `rows`."""
    made = Engine(
        lambda e, _: {"terms": {name: torch.tensor(value) for name, value in rows[e.state.epoch - 1].items()}}
    )
    alarm.attach(made)
    made.run([0], max_epochs=len(rows))


def test_the_alarm_speaks_after_patient_epochs_of_a_dead_latent_or_of_samples_alike(caplog):
    dead = {"kl_00": 0.001, "kl_01": 0.0, "sample_distance": 0.05, "sample_error": 0.05}
    alike = {"kl_00": 0.5, "kl_01": 0.1, "sample_distance": 0.001, "sample_error": 0.05}
    alive = {"kl_00": 0.5, "kl_01": 0.0, "sample_distance": 0.04, "sample_error": 0.05}
    written = []
    writer = SimpleNamespace(add_scalar=lambda *row: written.append(row))
    with caplog.at_level(logging.WARNING):
        watched([dead, dead, alive, alike, alike, alike, alive], LatentAlarm(patience=2, summary_writer=writer))
    sentences = [record.getMessage() for record in caplog.records]
    assert len(sentences) == 2
    assert "after epoch 2" in sentences[0] and "latent has collapsed" in sentences[0] and "0.0010" in sentences[0]
    assert "after epoch 5" in sentences[1] and "2.0%" in sentences[1] and "--energy_weight" in sentences[1]
    curves = {(name, step): value for name, value, step in written}
    assert curves["train_active_latents", 3] == 1 and curves["train_active_latents", 1] == 0
    assert curves["train_sample_share", 3] == pytest.approx(0.8)
    with pytest.raises(ValueError, match="patience=0"):
        LatentAlarm(patience=0)


def test_validation_scores_its_samples_and_draws_the_same_ones_in_every_run():
    network, _ = networks()
    with torch.no_grad():
        for layer in (network.texture[-1], network.generator.tail[0]):
            layer.weight.normal_(0, 0.1)
    evaluator = SampledEvaluator("cpu", Pairs(), network, samples=3, precision="fp32")
    SampleScores(degradation=Degradation(SCALE), perceptual=lambda a, b: (a - b).abs().flatten(1).mean(1)).attach(
        evaluator
    )
    outputs = []
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda e: outputs.append(dict(e.state.output)))
    evaluator.run()
    first = dict(evaluator.state.metrics)
    evaluator.run()
    assert evaluator.state.metrics == first
    samples, labels, predictions = (torch.cat([o[key] for o in outputs[:2]]) for key in ("samples", "label", "pred"))
    assert samples.shape == (4, 3, 3, 16, 16)
    energy = patch_energy_score(samples, labels).mean().item()
    assert first["val_energy_db"] == pytest.approx(-20 * np.log10(energy), abs=1e-3)
    point = patch_energy_score(torch.stack([predictions] * 2, 1), labels).mean().item()  # a set of equal answers
    assert first["val_energy_gain_db"] == pytest.approx(20 * np.log10(point / energy), abs=1e-2)
    assert first["val_sample_perceptual"] == pytest.approx((samples[:, 0] - labels).abs().mean().item(), abs=1e-5)
    assert first["val_sample_lr_psnr"] > 40 and 0 < first["val_sample_share"] < 1.5


# Known modes


def test_samples_find_the_modes_of_fields_that_training_never_saw():
    network = train_on_modes(known_modes(24, 0))
    unseen = known_modes(6, 1)
    found = find_modes(network, unseen)
    assert found.recall >= 0.8 and found.samples.shape == (6, 32, 3, 16, 16)
    assert found.near > 0.6  # most samples are of one mode, and no mixture
    assert min(found.shares) > 0.05 and sum(found.shares) == pytest.approx(1)
    assert found.recall_of_one == 0.25
    distances = set_distances(found.samples, unseen.versions)
    assert found.near == pytest.approx((distances.amin(2) < unseen.apart / 2).double().mean().item())


# Methods


def test_methods_of_the_comparison_are_built_from_checkpoints(tmp_path):
    network, _ = networks(lambda *a, **k: DropoutConv2d(*a, rate=0.2, fewest=4, **k))
    for seed in range(2):
        torch.manual_seed(seed)
        generator = SRResNet(features=8, blocks=1, norm=None, residual=True, upsampling="direct")
        with torch.no_grad():
            generator.tail[0].weight.normal_(0, 0.05)
        torch.save(generator.half().state_dict(), tmp_path / f"generator_{seed}.pt")
    torch.save(network.state_dict(), tmp_path / "model.pt")
    low = Pairs().batches[0]["image"]
    paths = [tmp_path / f"generator_{seed}.pt" for seed in range(2)]
    plain = uncertain_network("srgan", network, paths[:1])
    stored = torch.load(paths[0], weights_only=True)
    assert torch.equal(plain.network.tail[0].weight, stored["tail.0.weight"].float())
    dropout = uncertain_network("mc_dropout", network, paths[:1], operator=Degradation(SCALE))
    assert dropout.uncertainty(low, weight_samples=3)["epistemic"].any() and dropout.projection is not None
    ensemble = uncertain_network("ensemble", network, paths)
    assert isinstance(ensemble, WeightEnsemble) and not ensemble.training
    own = uncertain_network("bayesian", network, [tmp_path / "model.pt"])
    assert own is not network and torch.equal(own(low), network.eval()(low))
    before = copy.deepcopy(network.state_dict())
    load_generator(network, paths[1])
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith("generator.") for name in changed)


def test_a_run_begins_with_the_whole_network_of_another(tmp_path):
    (network, _), (other, _) = networks(), networks()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.05)
    torch.save(network.state_dict(), tmp_path / "pretrained.pt")
    load_generator(other, tmp_path / "pretrained.pt")
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in network.state_dict().items())
    wider = BayesianSRResNet(network.generator, network.projection.operator, latent_channels=5)
    with pytest.raises(ValueError, match="is of another network .* latent_channels"):
        load_generator(wider, tmp_path / "pretrained.pt")


def test_variational_generators_take_plain_weights_as_means(tmp_path):
    network, _ = networks(VariationalConv2d)
    plain, _ = networks()
    torch.save(plain.generator.state_dict(), tmp_path / "generator.pt")
    load_generator(network, tmp_path / "generator.pt")
    assert torch.equal(network.generator.head[0].weight, plain.generator.head[0].weight)


@pytest.mark.parametrize("norm", [None, "batch"])
def test_a_deeper_generator_begins_as_the_shallower_one(tmp_path, norm):
    torch.manual_seed(0)
    shallow, deep, shallower = (
        SRResNet(features=4, blocks=blocks, norm=norm, upsampling="direct") for blocks in (2, 4, 1)
    )
    torch.save(shallow.state_dict(), tmp_path / "shallow.pt")
    start_generator(deep, tmp_path / "shallow.pt")
    image = torch.rand(1, 3, 5, 6)
    assert torch.equal(deep.eval()(image), shallow.eval()(image))
    deep.train()(image).square().sum().backward()
    assert deep.blocks[3].conv2.weight.grad.any()  # what begins as nothing can learn
    with pytest.raises(ValueError, match="blocks.1.*as in its training"):
        start_generator(shallower, tmp_path / "shallow.pt")
    state = shallow.state_dict()
    del state["blocks.1.conv1.weight"]
    torch.save(state, tmp_path / "torn.pt")
    with pytest.raises(ValueError, match="1 of its .* tensors are missing.*blocks.1.conv1.weight"):
        start_generator(deep, tmp_path / "torn.pt")


def test_wrong_methods_and_weights_are_named(tmp_path):
    network, _ = networks()
    other = SRResNet(features=4, blocks=1, norm=None)
    torch.save(other.state_dict(), tmp_path / "other.pt")
    for method, count, message in (
        ("bicubic", 1, "method='bicubic' is not known"),
        ("ensemble", 1, "takes two or more checkpoints, got 1"),
        ("srgan", 2, "takes one checkpoint, got 2"),
        ("bayesian", 0, "takes one checkpoint or more, got 0"),
        ("mc_dropout", 1, "--weight_uncertainty dropout"),
        ("srresnet", 1, "is of another network"),
    ):
        with pytest.raises(ValueError, match=message):
            uncertain_network(method, network, [tmp_path / "other.pt"] * count)
