"""The probabilistic U-Net on any backbone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_ext.networks.latent_unet import LatentUNet
from monai_ext.networks.rater_sampler import SYMMETRIES, RaterSampler

SIZES = {2: (16, 8), 3: (8, 16, 8)}
both = pytest.mark.parametrize("dims", [2, 3])


def small(dims: int = 2, **settings) -> LatentUNet:
    torch.manual_seed(0)
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    return LatentUNet(conv(1, 4, 3, padding=1), features=4, latent=3, spatial_dims=dims, **settings)


def target(dims: int, raters: int = 3) -> dict[str, Tensor]:
    masks = (torch.rand(2, raters, *SIZES[dims]) > 0.5).to(torch.uint8)
    return {"masks": masks, "presence": torch.ones(2, raters)}


def conv_of(layer: nn.Module, x: Tensor, dims: int) -> Tensor:
    function = F.conv2d if dims == 2 else F.conv3d
    return function(x, layer.weight, layer.bias, stride=layer.stride, padding=layer.padding)


def halved(x: Tensor) -> Tensor:
    """Means over 2 x 2 (x 2) pixels, of fewer at the end of an axis, by a loop."""
    for axis in range(2, x.ndim):
        x = torch.cat([part.mean(axis, keepdim=True) for part in x.split(2, dim=axis)], dim=axis)
    return x


def gaussian_of(net: nn.Module, x: Tensor, share: Tensor, dims: int) -> tuple[Tensor, Tensor]:
    for layer in net.layers:
        x = F.leaky_relu(x, 0.1) if isinstance(layer, nn.LeakyReLU) else conv_of(layer, x, dims)
    doubt = halved(halved(share * (1 - share)))[0, 0].flatten() + 1e-3  # sizes here are multiples of 8
    places = x[0].flatten(1).unbind(1)
    mean = sum(weight * place for weight, place in zip(doubt, places, strict=True)) / doubt.sum()
    numbers = net.linear.weight @ mean + net.linear.bias
    return numbers[:3], numbers[3:].clamp(-5, 5)


def halved_share(network: LatentUNet, image: Tensor) -> Tensor:
    return halved(network(image).sigmoid())


def mask_of(network: LatentUNet, features: Tensor, latent: Tensor, dims: int) -> Tensor:
    """Logits of one latent of one case, (*spatial)."""
    common = sum(w * f.clamp(min=0) for w, f in zip(network.common.weight.flatten(), features[0], strict=True))
    numbers = network.modulation.weight @ latent + network.modulation.bias
    maps = [(1 + numbers[i]) * f + numbers[4 + i] for i, f in enumerate(halved(features)[0])]
    first, second = network.residual[1], network.residual[3]
    hidden = F.leaky_relu(conv_of(first, F.leaky_relu(torch.stack(maps)[None], 0.1), dims), 0.1)
    mode = "bilinear" if dims == 2 else "trilinear"
    residual = F.interpolate(conv_of(second, hidden, dims), features.shape[2:], mode=mode)
    return common + network.common.bias + residual[0, 0] + network.level.weight[0] @ latent


@both
def test_training_output_agrees_with_a_loop_over_cases_and_raters(dims, monkeypatch):
    network, images, truth = small(dims), torch.randn(2, 1, *SIZES[dims]), target(dims)
    monkeypatch.setattr(torch, "randn_like", lambda like: torch.full_like(like, 0.5))
    output = network(images, truth)
    for case, image in enumerate(images.split(1)):
        features = network.network(image)
        pooled = halved(features)
        share = halved_share(network, image)
        mean, log_sigma = gaussian_of(network.prior, pooled, share, dims)
        torch.testing.assert_close(output["prior"][case], torch.stack([mean, log_sigma]))
        for r, mask in enumerate(truth["masks"][case]):
            seen = torch.cat([pooled, halved(mask.float()[None, None]) - share], dim=1)
            mean, log_sigma = gaussian_of(network.posterior, seen, share, dims)
            torch.testing.assert_close(output["posterior"][case, r], torch.stack([mean, log_sigma]))
            expected = mask_of(network, features, mean + log_sigma.exp() * 0.5, dims)
            torch.testing.assert_close(output["logits"][case, r], expected)
    torch.testing.assert_close(output["share"], network(images))


@both
def test_samples_are_drawn_from_the_prior_and_their_spread_can_be_chosen(dims):
    network, image = small(dims).train(), torch.randn(1, 1, *SIZES[dims])
    noise = torch.randn(1, 10, 3, generator=torch.Generator().manual_seed(1))
    for spread in (1.0, 0.5):
        network.spread = spread
        found = network.predict(image, 10, generator=torch.Generator().manual_seed(1))
        share = halved_share(network, image)
        mean, log_sigma = gaussian_of(network.prior, halved(network.network(image)), share, dims)
        for i in range(10):
            logits = mask_of(network, network.network(image), mean + log_sigma.exp() * spread * noise[0, i], dims)
            torch.testing.assert_close(found.samples[0, i], logits.sigmoid())
        torch.testing.assert_close(found.share, network(image).sigmoid())
    assert isinstance(network, RaterSampler) and network.training and not found.samples.requires_grad
    assert network.predict(image, 2, symmetries=SYMMETRIES).samples.shape == (1, 2, *SIZES[dims])


def test_without_posterior_training_draws_from_the_prior():
    network, images = small(posterior=False, train_samples=5), torch.randn(2, 1, *SIZES[2])
    truth = target(2)
    torch.manual_seed(3)
    output = network(images, truth)
    torch.manual_seed(3)
    noise = torch.randn(2, 5, 3)
    assert output.keys() == {"share", "logits"}
    first = images[:1]
    mean, log_sigma = gaussian_of(network.prior, halved(network.network(first)), halved_share(network, first), 2)
    expected = mask_of(network, network.network(images[:1]), mean + log_sigma.exp() * noise[0, 4], 2)
    torch.testing.assert_close(output["logits"][0, 4], expected)


def test_samples_begin_as_level_sets_of_the_share():
    network, image = small(), torch.randn(1, 1, 16, 8)
    nn.init.zeros_(network.residual[-1].weight)
    nn.init.zeros_(network.residual[-1].bias)
    output = network(image, {name: values[:1] for name, values in target(2).items()})
    levels = output["logits"] - output["share"]
    torch.testing.assert_close(levels, levels[..., :1, :1].expand_as(levels))  # one level for each mask
    levels.square().sum().backward()
    gradient = network.posterior.linear.weight.grad
    assert gradient[0].any() and not gradient[1:3].any()  # of the first number alone


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="latent=0"):
        LatentUNet(nn.Identity(), features=1, latent=0)


@both
def test_odd_sizes_and_structures_are_predicted_together(dims):
    size = (7, 5, 3)[:dims]
    network, image = small(dims, structures=2), torch.randn(2, 1, *size)
    output = network(image, {"masks": torch.ones(2, 3, 2, *size), "presence": torch.ones(2, 3)})
    assert output["logits"].shape == (2, 3, 2, *size) and output["share"].shape == (2, 1, 2, *size)
    found = network.predict(image, 4, symmetries=SYMMETRIES)
    assert found.samples.shape == (2, 4, 2, *size) and found.share.shape == (2, 1, 2, *size)
