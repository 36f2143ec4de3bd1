from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx_export import onnx_output
from torch import Tensor, nn

from monai_ext.networks.holistic_net import HolisticNet
from monai_ext.networks.rater_sampler import RaterSampler


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def built_without_memory(raters: int, **settings) -> HolisticNet:
    with torch.device("meta"):
        return HolisticNet(raters, **settings)


def test_faithful_network_has_the_published_number_of_parameters():
    assert parameters(built_without_memory(3, faithful=True)) == 26_077_647


def test_each_rater_costs_one_encoder_decoder_and_head():
    sizes = [parameters(built_without_memory(raters, faithful=True)) for raters in (3, 4)]
    # encoder 640 + 2 * 36,928 + 73,856 + 2 * 147,584; decoder 131,200 + 295,040 + 2 * 147,584 + 32,832 + 73,792
    # + 2 * 36,928; head 36,928 + 1,154 + 3
    assert sizes[1] - sizes[0] == 443_520 + 901_888 + 38_085


def test_shared_variant_has_one_encoder_one_decoder_and_all_heads():
    shared, full = (built_without_memory(3, faithful=True, branches=b) for b in (1, 3))
    assert parameters(full) - parameters(shared) == 2 * (443_520 + 901_888)
    assert (len(shared.encoders), len(shared.decoders), len(shared.heads)) == (1, 1, 3)


class Published:
    """The published forward pass, layer by layer on the tensors of a state dict; dropout off, sizes divisible by 16."""

    def __init__(self, state: dict[str, Tensor]):
        self.state = state

    def conv(self, x: Tensor, name: str) -> Tensor:
        weight = self.state[f"{name}.weight"]
        return F.conv2d(x, weight, self.state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def relu_conv(self, x: Tensor, name: str) -> Tensor:
        return torch.relu(self.conv(x, f"{name}.0"))

    def up(self, x: Tensor, name: str) -> Tensor:
        return F.conv_transpose2d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"], stride=2)

    def encode(self, image: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        c1 = self.conv(image, f"encoders.{k}.stage1.first")
        c2 = self.conv(c1, f"encoders.{k}.stage1.second")
        s1 = self.conv(c1 + c2, f"encoders.{k}.stage1.last")
        c3 = self.conv(F.avg_pool2d(s1, 2), f"encoders.{k}.stage2.first")
        c4 = self.conv(c3, f"encoders.{k}.stage2.second")
        s2 = self.conv(c3 + c4, f"encoders.{k}.stage2.last")
        return F.avg_pool2d(c4, 2), s1, s2  # c4, not s2

    def common(self, x: Tensor) -> Tensor:
        d = self.conv(self.conv(x, "common.d.0"), "common.d.1")
        e = self.relu_conv(self.relu_conv(F.max_pool2d(d, 2), "common.e.0"), "common.e.1")
        f = self.relu_conv(F.max_pool2d(e, 2), "common.fg.first")
        g = self.relu_conv(f, "common.fg.second")
        x = self.relu_conv(f + g, "common.fg.last")
        x = torch.cat([self.up(x, "common.up_e"), e], dim=1)
        x = self.relu_conv(self.relu_conv(x, "common.merge_e.0"), "common.merge_e.1")
        x = torch.cat([self.up(x, "common.up_d"), d], dim=1)
        return self.relu_conv(self.relu_conv(x, "common.merge_d.0"), "common.merge_d.1")

    def decode(self, x: Tensor, s1: Tensor, s2: Tensor, k: int) -> Tensor:
        for stage, skip in ((2, s2), (1, s1)):
            x = torch.cat([self.up(x, f"decoders.{k}.up{stage}"), skip], dim=1)
            first = self.conv(x, f"decoders.{k}.stage{stage}.first")
            second = self.conv(first, f"decoders.{k}.stage{stage}.second")
            x = self.conv(first + second, f"decoders.{k}.stage{stage}.last")
        x = self.relu_conv(x, f"heads.{k}.0")
        return self.conv(self.relu_conv(x, f"heads.{k}.2"), f"heads.{k}.3")

    def __call__(self, image: Tensor, raters: int) -> Tensor:
        encoded = [self.encode(image, k) for k in range(raters)]
        common = self.common(sum(pooled for pooled, _, _ in encoded))
        return torch.cat([self.decode(common, s1, s2, k) for k, (_, s1, s2) in enumerate(encoded)], dim=1)


def test_faithful_network_computes_what_was_published():
    torch.manual_seed(0)
    network = HolisticNet(3, 2, features=3, faithful=True).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)  # biases as well, which start at zero
    image = torch.randn(2, 2, 32, 16)
    expected = Published(network.state_dict())(image, raters=3)
    assert expected.std() > 0
    torch.testing.assert_close(network(image), expected)


def additivity_error(encoder: nn.Module, *, seed: int = 0) -> float:
    """max |f(x + y) + f(0) - f(x) - f(y)|, which is zero for an affine f, over all outputs."""
    draw = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, 1, 1, 16, 16, generator=draw)
    outputs = [encoder(image) for image in (x + y, torch.zeros_like(x), x, y)]
    return max(float((a + b - c - d).detach().abs().max()) for a, b, c, d in zip(*outputs, strict=True))


def test_published_encoders_are_linear_and_the_mended_ones_are_not():
    assert additivity_error(HolisticNet(2, features=4, faithful=True).encoders[0]) < 1e-5
    assert additivity_error(HolisticNet(2, features=4).encoders[0]) > 0.1


def test_the_common_channel_is_fed_from_the_end_of_stage_two_unless_faithful():
    image = torch.randn(1, 1, 16, 16)
    for faithful in (False, True):
        pooled, _, s2 = HolisticNet(2, features=4, faithful=faithful).encoders[0](image)
        assert torch.equal(pooled, F.avg_pool2d(s2, 2)) != faithful


def test_a_published_head_whose_last_channels_are_dead_stays_at_one_half_whatever_the_features_say():
    features = torch.randn(1, 4, 8, 8) * 100
    for faithful, stuck in ((True, True), (False, False)):
        head = HolisticNet(1, features=4, faithful=faithful).eval().heads[0]
        convolutions = [layer for layer in head.modules() if isinstance(layer, nn.Conv2d)]
        nn.init.constant_(convolutions[-2].weight, -1.0)
        probability = head(features.abs()).sigmoid()
        assert bool((probability == 0.5).all()) == stuck


def test_default_has_normalisation_and_activation_after_every_convolution_but_the_last_ones():
    network = HolisticNet(3, features=4)
    plain = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.bias is not None]
    assert [tuple(layer.weight.shape) for layer in plain] == [(1, 4, 1, 1)] * 3
    norms = sum(isinstance(layer, nn.GroupNorm) for layer in network.modules())
    convolutions = sum(isinstance(layer, nn.Conv2d) for layer in network.modules())
    assert norms == sum(isinstance(layer, nn.ReLU) for layer in network.modules()) == convolutions - 3


def test_a_case_does_not_depend_on_its_batch_even_in_training():
    network = HolisticNet(2, features=4, dropout=0.0).train()
    images = torch.randn(3, 1, 16, 16)
    torch.testing.assert_close(network(images)[1:2], network(images[1:2]), rtol=1e-4, atol=1e-5)


def test_another_normalisation_can_be_named():
    norms = [type(layer) for layer in HolisticNet(1, features=4, norm="batch").modules()]
    assert nn.BatchNorm2d in norms and nn.GroupNorm not in norms


def test_one_raters_loss_reaches_all_encoders_but_no_other_decoder_or_head():
    network = HolisticNet(3, features=4)
    network(torch.randn(1, 1, 16, 16))[:, 1].sum().backward()
    reached = {
        name
        for part in ("encoders", "decoders", "heads")
        for name in (f"{part}.{k}" for k in range(3))
        if any(p.grad.count_nonzero() for p in network.get_submodule(name).parameters())
    }
    assert reached == {"encoders.0", "encoders.1", "encoders.2", "decoders.1", "heads.1"}


def test_parameters_are_named_by_part_and_rater():
    names = {".".join(name.split(".")[:2]) for name in HolisticNet(2, features=4).state_dict()}
    branches = {f"{part}.{k}" for part in ("encoders", "decoders", "heads") for k in range(2)}
    assert names - branches == {f"common.{part}" for part in ("d", "e", "fg", "up_e", "merge_e", "up_d", "merge_d")}
    assert branches <= names


@pytest.mark.parametrize("size", [(1, 1), (15, 17), (32, 16)])
def test_output_has_the_size_of_the_input_and_one_map_for_each_rater(size):
    network = HolisticNet(3, 2, features=4).eval()
    image = torch.randn(2, 2, *size)
    logits = network(image)
    assert logits.shape == (2, 3, *size)
    bottom, right = -size[0] % 16, -size[1] % 16
    padded = F.pad(image, (0, right, 0, bottom), mode="replicate")
    torch.testing.assert_close(logits, network(padded)[..., : size[0], : size[1]])


def test_as_many_samples_as_raters_show_every_head_once_and_keep_the_mode():
    network = HolisticNet(3, features=4).train()
    image = torch.randn(2, 1, 16, 16)
    samples = network.sample(image, 3)
    assert network.training and all(layer.training for layer in network.modules())
    assert not samples.requires_grad
    torch.testing.assert_close(samples, network.eval()(image).sigmoid().detach())
    assert isinstance(network, RaterSampler) and network.per_rater


def test_dropout_acts_in_training_only():
    network = HolisticNet(2, features=4, dropout=0.5)
    image = torch.randn(1, 1, 16, 16)
    assert not torch.equal(network.train()(image), network(image))
    assert torch.equal(network.eval()(image), network(image))


def test_learns_two_raters_of_whom_one_draws_only_the_inner_part():
    torch.manual_seed(0)
    inner, outer = torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    inner[..., 6:10, 6:10], outer[..., 3:13, 3:13] = 1, 1
    image, target = inner + outer, torch.cat([inner, outer], dim=1)
    network = HolisticNet(2, features=4, dropout=0.0)
    optimiser = torch.optim.NAdam(network.parameters(), lr=1e-2)
    for _ in range(40):
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(network(image), target).backward()
        optimiser.step()
    wrong = ((network.eval()(image) > 0) != target.bool()).flatten(2).sum(-1)
    assert (wrong <= 4).all()  # of 16 and 100 pixels


@pytest.mark.parametrize("settings", [{}, {"branches": 1}, {"faithful": True}], ids=["default", "shared", "faithful"])
def test_scripted_and_traced_networks_agree_with_eager_at_another_size(settings):
    network = HolisticNet(2, features=4, **settings).eval()
    image = torch.randn(2, 1, 19, 33)
    expected = network(image)
    torch.testing.assert_close(torch.jit.script(network)(image), expected)
    torch.testing.assert_close(torch.jit.trace(network, torch.randn(1, 1, 16, 16))(image), expected)


def test_onnx_export_with_dynamic_sizes_agrees_with_eager():
    network, image = HolisticNet(2, features=4).eval(), torch.randn(2, 1, 19, 33)
    given = onnx_output(network, torch.randn(1, 1, 32, 32), image)
    np.testing.assert_allclose(given, network(image).detach().numpy(), atol=1e-4)


@pytest.mark.parametrize("settings", [{"raters": 0}, {"raters": 3, "branches": 2}, {"raters": 1, "features": 0}])
def test_impossible_counts_are_refused(settings):
    with pytest.raises(ValueError, match="branches is 1 or as many as raters"):
        HolisticNet(**settings)


def test_a_normalisation_for_the_faithful_network_is_refused():
    with pytest.raises(ValueError, match="norm='batch': the faithful network has no normalisation"):
        HolisticNet(2, norm="batch", faithful=True)
