"""The hierarchical probabilistic U-Net on any backbone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_ext.networks.hierarchical_unet import HierarchicalUNet
from monai_ext.networks.rater_sampler import SYMMETRIES, RaterSampler

SIZES = {2: (18, 13), 3: (12, 11, 3)}
both = pytest.mark.parametrize("dims", [2, 3])


def small(dims: int = 2, **settings) -> HierarchicalUNet:
    torch.manual_seed(0)
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    network = HierarchicalUNet(conv(1, 4, 3, padding=1), features=4, latent=2, width=3, spatial_dims=dims, **settings)
    for layer in network.local_levels:
        nn.init.normal_(layer.weight)  # as after training
    return network


def conv_of(layer: nn.Module, x: Tensor) -> Tensor:
    function = F.conv2d if x.ndim == 4 else F.conv3d
    return function(x, layer.weight, layer.bias, stride=layer.stride, padding=layer.padding)


def mask_of(network: HierarchicalUNet, image: Tensor, mask: Tensor | None, noise: list[Tensor]) -> tuple:
    """Logits, prior and posterior of one case and rater, level by level; without mask from the prior."""
    features = network.network(image)
    mode = "bilinear" if image.ndim == 4 else "trilinear"
    pyramid, seen, x = [], [], features
    m = None if mask is None else mask[None, None].float() - 0.5
    for halving, of_mask in zip(network.pyramid, network.of_mask, strict=True):
        x = F.leaky_relu(conv_of(halving[0], x), 0.1)
        pyramid.append(x)
        m = None if m is None else F.leaky_relu(conv_of(of_mask[0], m), 0.1)
        seen.append(m)
    state, priors, posteriors, added = torch.zeros(1, 3, *pyramid[3].shape[2:]), [], [], 0.0
    for place in range(3):  # pyramid 3, 2, 1: an eighth, ... a quarter
        level = pyramid[3 - place]
        state = F.interpolate(state, level.shape[2:], mode=mode)
        gaussian = conv_of(network.priors[place], torch.cat([state, level], dim=1))
        priors.append(gaussian)
        if m is not None:
            gaussian = conv_of(network.posteriors[place], torch.cat([state, level, seen[3 - place]], dim=1))
            posteriors.append(gaussian)
        latent = gaussian[:, :2] + gaussian[:, 2:].clamp(-5, 5).exp() * noise[place]
        weight = network.local_levels[place].weight.flatten()
        level_map = sum(w * z for w, z in zip(weight, latent[0], strict=True))
        added = added + F.interpolate(level_map[None, None], image.shape[2:], mode=mode)
        state = F.leaky_relu(conv_of(network.states[place][0], torch.cat([state, level, latent], dim=1)), 0.1)
    residual = F.interpolate(conv_of(network.residual, state), image.shape[2:], mode=mode)
    numbers = [
        torch.stack([torch.cat([g[0, s].flatten() for g in parts]) for s in (slice(0, 2), slice(2, 4))])
        for parts in (priors, posteriors)
        if parts
    ]
    return (network.common(features.relu()) + residual + added)[0, 0], *numbers


@both
def test_training_output_agrees_with_a_loop_over_cases_raters_and_levels(dims, monkeypatch):
    network, images = small(dims), torch.randn(2, 1, *SIZES[dims])
    masks = (torch.rand(2, 3, *SIZES[dims]) > 0.5).to(torch.uint8)
    monkeypatch.setattr(torch, "randn_like", lambda like: torch.full_like(like, 0.5))
    output = network(images, {"masks": masks, "presence": torch.ones(2, 3)})
    for case, image in enumerate(images.split(1)):
        for r, mask in enumerate(masks[case]):
            logits, prior, posterior = mask_of(network, image, mask, [torch.tensor(0.5)] * 3)
            torch.testing.assert_close(output["logits"][case, r], logits)
            torch.testing.assert_close(output["prior"][case, r], prior)
            torch.testing.assert_close(output["posterior"][case, r], posterior)
    torch.testing.assert_close(output["share"], network(images))


@both
def test_samples_are_drawn_level_by_level_from_the_priors(dims):
    network, image = small(dims).train(), torch.randn(1, 1, *SIZES[dims])
    network.spread = 0.7
    draw = torch.Generator().manual_seed(1)
    noise = [0.7 * torch.randn(1, 2, *size, generator=draw) for size in network.noise_sizes(image)]
    found = network.predict(image, 2, generator=torch.Generator().manual_seed(1))
    for i in range(2):
        logits, _ = mask_of(network, image, None, [part[:, i] for part in noise])
        torch.testing.assert_close(found.samples[0, i], logits.sigmoid())
    torch.testing.assert_close(found.share, network(image).sigmoid())
    assert isinstance(network, RaterSampler) and network.training and not found.samples.requires_grad
    assert network.predict(image, 2, symmetries=SYMMETRIES).samples.shape == (1, 2, *SIZES[dims])


def test_each_level_of_the_latent_changes_the_mask():
    network, image = small(), torch.randn(1, 1, 16, 16)
    sizes = network.noise_sizes(image)
    assert sizes == [(2, 1, 1), (2, 2, 2), (2, 4, 4)]
    noise = [torch.zeros(1, 1, *size) for size in sizes]
    _, before = network.probabilities(image, noise)
    for place, size in enumerate(sizes):
        _, after = network.probabilities(image, [*noise[:place], torch.ones(1, 1, *size), *noise[place + 1 :]])
        assert not torch.allclose(before, after)


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="levels=0"):
        HierarchicalUNet(nn.Identity(), features=1, levels=0)


@both
def test_structures_are_predicted_together(dims):
    size = (13, 9, 3)[:dims]
    network, image = small(dims, structures=2), torch.randn(2, 1, *size)
    output = network(image, {"masks": torch.ones(2, 3, 2, *size), "presence": torch.ones(2, 3)})
    assert output["logits"].shape == (2, 3, 2, *size) and output["share"].shape == (2, 1, 2, *size)
    found = network.predict(image, 4, symmetries=SYMMETRIES)
    assert found.samples.shape == (2, 4, 2, *size) and found.share.shape == (2, 1, 2, *size)
