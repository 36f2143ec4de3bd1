"""Methods of a comparison, and trainings that begin with the weights of others."""

from __future__ import annotations

import copy

import pytest
import torch
from latent_toys import SCALE, Pairs, networks

from monai_ext.handlers.super_resolution.methods import load_generator, start_generator, uncertain_network
from monai_ext.networks.gated_sr_net import GatedSRNet
from monai_ext.networks.latent_srresnet import BayesianSRResNet
from monai_ext.networks.srresnet import SRResNet
from monai_ext.networks.uncertain_sr import WeightEnsemble
from monai_ext.networks.variational import DropoutConv2d, VariationalConv2d
from monai_ext.transforms.degradation import Degradation


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


def test_a_frozen_generator_keeps_its_body_and_trains_all_else(tmp_path):
    network, _ = networks()
    with pytest.raises(ValueError, match="give --init_weights"):
        load_generator(network, None, freeze="true")
    torch.save(network.generator.state_dict(), tmp_path / "generator.pt")
    load_generator(network, tmp_path / "generator.pt", freeze="true")
    trained = {name.split(".")[1] for name, weight in network.named_parameters() if weight.requires_grad}
    frozen = {name.split(".")[1] for name, weight in network.named_parameters() if not weight.requires_grad}
    assert frozen == {"head", "blocks", "merge"} and "tail" in trained
    assert all(weight.requires_grad for weight in network.texture.parameters())


def test_variational_generators_take_plain_weights_as_means(tmp_path):
    network, _ = networks(VariationalConv2d)
    plain, _ = networks()
    torch.save(plain.generator.state_dict(), tmp_path / "generator.pt")
    load_generator(network, tmp_path / "generator.pt")
    assert torch.equal(network.generator.head[0].weight, plain.generator.head[0].weight)


def test_a_deeper_gated_generator_begins_as_the_shallower_one(tmp_path):
    torch.manual_seed(0)
    shallow, deep = (GatedSRNet(features=4, blocks=blocks) for blocks in (1, 3))
    torch.nn.init.normal_(shallow.tail[0].weight)
    torch.save(shallow.state_dict(), tmp_path / "shallow.pt")
    start_generator(deep, tmp_path / "shallow.pt")
    image = torch.rand(1, 3, 5, 6)
    assert torch.equal(deep(image), shallow(image))
    deep(image).square().sum().backward()
    assert all(end.weight.grad.any() for end in deep.blocks[2].branch_ends())


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
