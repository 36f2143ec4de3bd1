from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_ext.losses import ELBOLoss, samples_alike
from monai_ext.networks.probabilistic_unet import ProbabilisticUNet
from monai_ext.networks.rater_sampler import RaterSampler

WIDTHS = (4, 4, 4, 4, 4)


def small(in_channels: int = 1, *, seed: int = 0, **settings) -> ProbabilisticUNet:
    torch.manual_seed(seed)
    return ProbabilisticUNet(in_channels, WIDTHS, **settings)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def set_gaussian(net: nn.Module, *, mean: float, log_sigma: float) -> None:
    """Make a latent net give the same Gaussian for every image."""
    half = net.linear.out_features // 2
    nn.init.zeros_(net.linear.weight)
    net.linear.bias.data = torch.tensor([mean] * half + [log_sigma] * half)


def test_combination_is_a_convolution_of_features_and_tiled_latent():
    combination = small().combination
    features, latent = torch.randn(2, 4, 5, 3), torch.randn(2, 6)
    tiled = latent[:, :, None, None].expand(-1, -1, 5, 3)
    weight = torch.cat([combination.of_features.weight, combination.of_latent.weight[:, :, None, None]], dim=1)
    joined = F.conv2d(torch.cat([features, tiled], dim=1), weight, combination.of_features.bias)
    torch.testing.assert_close(combination(features, latent), combination.further(joined))


@pytest.mark.parametrize("layers", [1, 3])
def test_combination_has_as_many_hidden_layers_as_asked_for_and_then_the_logits(layers):
    combination = small(combination_layers=layers).combination
    convolutions = [layer for layer in combination.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [4] * layers + [1]
    assert sum(isinstance(layer, nn.LeakyReLU) for layer in combination.modules()) == layers


def test_all_draws_share_one_pass_of_unet_prior_and_first_convolution():
    network = small()
    calls = {"unet": 0, "prior": 0, "posterior": 0, "combination.of_features": 0, "combination.further": 0}

    def count(name: str):
        def hook(*_: object) -> None:
            calls[name] += 1

        return hook

    for name in calls:
        network.get_submodule(name).register_forward_hook(count(name))
    assert network.sample(torch.randn(2, 1, 16, 16), 7).shape == (2, 7, 16, 16)
    assert calls == {"unet": 1, "prior": 1, "posterior": 0, "combination.of_features": 1, "combination.further": 7}


def test_samples_are_the_probabilities_of_forward_with_the_same_noise():
    network = small().eval()
    image = torch.randn(2, 1, 19, 21)
    source = generator(5)
    noise = torch.stack([torch.randn(3, 6, generator=source) for _ in image])  # one case after the other
    samples = network.sample(image, 3, generator=generator(5))
    for i in range(3):
        torch.testing.assert_close(samples[:, i : i + 1], network(image, noise=noise[:, i]).sigmoid().detach())


def test_a_generator_replays_the_draws_and_leaves_the_global_one_alone():
    network, image = small(), torch.randn(1, 1, 16, 16)
    state = torch.get_rng_state()
    first = network.sample(image, 4, generator=generator(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, network.sample(image, 4, generator=generator(1)))
    assert not torch.equal(first, network.sample(image, 4, generator=generator(2)))
    assert len(torch.unique(first.flatten(2), dim=1)[0]) == 4


def test_sampling_keeps_mode_and_statistics_and_needs_no_gradient():
    network = small().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    samples = network.sample(torch.randn(2, 1, 16, 16), 2)
    assert all(layer.training for layer in network.modules()) and not samples.requires_grad
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert isinstance(network, RaterSampler) and not network.per_rater


def test_forward_draws_from_the_prior_with_the_global_generator():
    network, image = small().eval(), torch.randn(1, 1, 16, 16)
    torch.manual_seed(3)
    noise = torch.randn(1, 6)
    torch.manual_seed(3)
    torch.testing.assert_close(network(image), network(image, noise=noise), rtol=0, atol=0)
    set_gaussian(network.prior, mean=0.7, log_sigma=-0.5)
    projected = network.unet(image)
    expected = network.combination(projected, 0.7 + np.exp(-0.5) * noise)
    torch.testing.assert_close(network(image, noise=noise), expected)


def test_with_a_mask_the_latent_comes_from_the_posterior():
    network, image = small().eval(), torch.randn(2, 1, 16, 16)
    mask = (torch.rand(2, 1, 16, 16) > 0.5).to(torch.uint8)
    set_gaussian(network.prior, mean=-3.0, log_sigma=0.0)
    set_gaussian(network.posterior, mean=2.0, log_sigma=0.25)
    noise = torch.randn(2, 6)
    output = network(image, mask, noise)
    assert output["prior"].shape == output["posterior"].shape == (2, 2, 6)
    torch.testing.assert_close(output["posterior"], torch.tensor([2.0, 0.25])[None, :, None].expand(2, -1, 6))
    torch.testing.assert_close(output["logits"], network.combination(network.unet(image), 2 + np.exp(0.25) * noise))


def test_posterior_sees_the_mask_and_prior_does_not():
    network, image = small().train(), torch.randn(1, 1, 16, 16).expand(2, -1, -1, -1)
    output = network(image, torch.tensor([0, 1])[:, None, None, None].expand(2, 1, 16, 16))
    assert torch.equal(output["prior"][0], output["prior"][1])
    assert (output["posterior"][0] - output["posterior"][1]).abs().max() > 0.1


def test_log_sigma_is_bounded():
    network = small().eval()
    for wild, bounded in ((100.0, 8.0), (-100.0, -8.0)):
        set_gaussian(network.prior, mean=50.0, log_sigma=wild)
        gaussian = network.prior(torch.randn(1, 1, 16, 16))
        assert (gaussian[:, 0] == 50).all() and (gaussian[:, 1] == bounded).all()


def test_every_parameter_learns_from_the_bound():
    network = small(2)
    mask = (torch.rand(2, 1, 17, 16) > 0.5).float()
    ELBOLoss()(network(torch.randn(2, 2, 17, 16), mask), mask).backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A bias before BatchNorm has no effect; everything else must move.
    assert all(name.endswith("conv.bias") for name in idle), idle


def test_learns_that_one_image_has_two_answers():
    torch.manual_seed(0)
    network = ProbabilisticUNet(1, (8, 8, 8, 8, 8))
    square = torch.zeros(16, 16)
    square[4:12, 4:12] = 1
    image = square.expand(4, 1, 16, 16)
    mask = square * torch.tensor([0.0, 1.0]).repeat(2)[:, None, None, None]  # half of the raters see nothing
    loss, optimiser = ELBOLoss(), torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(100):
        optimiser.zero_grad()
        loss(network(image, mask), mask).backward()
        optimiser.step()
    samples = network.sample(image[:1], 64, generator=generator())
    inside = samples[0, :, 6:10, 6:10].mean(dim=(1, 2))
    assert 0.15 < (inside > 0.5).float().mean() < 0.85  # both answers are given
    assert samples_alike(samples) < 0.5  # and most draws are sure of theirs


@pytest.mark.parametrize("size", [(1, 1), (15, 17), (32, 16)])
def test_outputs_have_the_size_of_the_image(size):
    network = small(2).eval()
    image = torch.randn(2, 2, *size)
    assert network(image).shape == (2, 1, *size)
    assert network(image, torch.zeros(2, 1, *size))["logits"].shape == (2, 1, *size)
    assert network.sample(image, 2).shape == (2, 2, *size)


def test_scripted_network_draws_what_eager_draws_and_refuses_a_mask():
    network = small().eval()
    scripted = torch.jit.script(network)
    image = torch.randn(2, 1, 19, 17)
    torch.manual_seed(1)
    expected = network(image)
    torch.manual_seed(1)
    torch.testing.assert_close(scripted(image), expected)
    with pytest.raises(torch.jit.Error, match="draws from its prior only"):
        scripted(image, torch.zeros(2, 1, 19, 17))


def test_onnx_export_with_given_noise_agrees_with_eager():
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    network = small().eval()
    buffer = io.BytesIO()
    axes = {0: "N", 2: "H", 3: "W"}
    torch.onnx.export(
        network,
        (torch.randn(1, 1, 32, 32), None, torch.randn(1, 6)),
        buffer,
        dynamo=False,
        input_names=["image", "noise"],
        output_names=["pred"],
        dynamic_axes={"image": axes, "pred": axes, "noise": {0: "N"}},
    )
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    image, noise = torch.randn(2, 1, 19, 17), torch.randn(2, 6)
    given = session.run(None, {"image": image.numpy(), "noise": noise.numpy()})[0]
    np.testing.assert_allclose(given, network(image, noise=noise).detach().numpy(), atol=1e-4)


@pytest.mark.parametrize("mask", [torch.zeros(2, 3, 16, 16), torch.zeros(2, 1, 8, 8), torch.zeros(2, 16, 16)])
def test_a_mask_of_another_shape_is_refused(mask: Tensor):
    with pytest.raises(ValueError, match=r"mask .* must be \(2, 1, 16, 16\): the mask of one rater"):
        small()(torch.randn(2, 1, 16, 16), mask)


def test_the_last_bias_begins_at_the_log_odds_of_the_foreground():
    image, noise, logits = torch.randn(2, 1, 32, 32), torch.zeros(2, 6), []
    for foreground in (0.5, 0.02):
        torch.manual_seed(0)
        logits.append(ProbabilisticUNet(1, WIDTHS, foreground=foreground)(image, noise=noise))
    assert torch.allclose(logits[1] - logits[0], torch.tensor(math.log(0.02 / 0.98)), atol=1e-5)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="five widths"):
        ProbabilisticUNet(1, (4, 4))
    with pytest.raises(ValueError, match="all counts at least 1"):
        ProbabilisticUNet(1, WIDTHS, latent=0)
    with pytest.raises(ValueError, match="foreground=0 must be between 0 and 1"):
        ProbabilisticUNet(1, WIDTHS, foreground=0)
    with pytest.raises(ValueError, match="n=0 must be at least 1"):
        small().sample(torch.randn(1, 1, 16, 16), 0)


def test_units_of_the_combination_cannot_be_switched_off_for_good():
    combination = small().combination
    for layer in combination.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.bias, -10.0)  # as an early push to background may leave them
    combination(torch.rand(1, 4, 8, 8), torch.zeros(1, 6)).sum().backward()
    assert combination.of_features.weight.grad.abs().sum() > 0
