from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx_export import onnx_output
from torch import nn

from monai_ext.networks import GatedSRNet


def trained(**options) -> GatedSRNet:
    """A small network whose tail is no longer zero."""
    torch.manual_seed(0)
    network = GatedSRNet(**{"features": 8, "blocks": 2, **options}).eval()
    nn.init.normal_(network.tail[0].weight, std=0.1)
    return network


def test_default_generator_has_its_parameters():
    norms, narrow, wide = 2 * (2 * 48), 2 * (48 * 48 + 48), 2 * (48 * 96 + 96)
    block = norms + narrow + wide + 96 * 9 + 96
    ends = (3 * 48 * 9 + 48) + (48 * 48 * 9 + 48) + (48 * 48 * 9 + 48)
    assert sum(p.numel() for p in GatedSRNet().parameters()) == 16 * block + ends == 287_136


@pytest.mark.parametrize("scale", [2, 3, 4, 5])
def test_output_is_scale_times_the_input_at_any_size(scale):
    network = trained(scale=scale, in_channels=5, out_channels=2, residual=False)
    for height, width in ((1, 1), (5, 7)):
        assert network(torch.rand(2, 5, height, width)).shape == (2, 2, scale * height, scale * width)


@pytest.mark.parametrize(("scale", "size"), [(4, (6, 5)), (4, (1, 1)), (3, (4, 2))])
def test_network_starts_as_bicubic_interpolation(scale, size):
    image = torch.rand(1, 3, *size)
    bicubic = F.interpolate(image, scale_factor=scale, mode="bicubic", align_corners=False)
    torch.testing.assert_close(GatedSRNet(features=8, blocks=2, scale=scale)(image), bicubic, rtol=0, atol=0)


def test_every_parameter_learns():
    network, image = GatedSRNet(features=8, blocks=2), torch.rand(1, 3, 6, 5)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (network(image) - 0.5).square().mean().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_without_residual_it_starts_without_a_checkerboard():
    image = GatedSRNet(features=8, blocks=2, residual=False)(torch.rand(1, 3, 5, 6))
    torch.testing.assert_close(image, F.interpolate(F.avg_pool2d(image, 4), scale_factor=4.0, mode="nearest"))
    assert image.std() > 0


def test_images_of_a_batch_are_independent():
    network, images = trained().train(), torch.rand(3, 3, 6, 6)
    torch.testing.assert_close(network(images)[:1], network(images[:1]))


def test_a_block_is_two_residual_branches_of_gated_products():
    torch.manual_seed(0)
    block, x = GatedSRNet(features=4, blocks=1).blocks[0], torch.rand(1, 4, 3, 3)
    norm, widen, depthwise, _, project = block.spatial
    normalised = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, unbiased=False) + norm.eps).sqrt()
    wide = depthwise(widen(normalised))
    middle = x + project(wide[:, :4] * wide[:, 4:])
    normalised = (middle - middle.mean(1, keepdim=True)) / (
        middle.var(1, keepdim=True, unbiased=False) + norm.eps
    ).sqrt()
    wide = block.mixing[1](normalised)
    torch.testing.assert_close(block(x), middle + block.mixing[3](wide[:, :4] * wide[:, 4:]))
    assert depthwise.groups == 8 and depthwise.kernel_size == (3, 3)


def test_receptive_field_is_that_of_the_layers():
    network, image = trained(residual=False), torch.rand(1, 3, 31, 31, requires_grad=True)
    network(image)[0, 0, 15 * 4, 15 * 4].backward()
    seen = image.grad.abs().sum((0, 1)).nonzero()
    assert (seen - 15).abs().max().item() == 1 + 2 + 1 + 1  # head, blocks, merge, tail


def test_both_halves_make_the_whole():
    network, image = trained(), torch.rand(1, 3, 5, 6)
    assert network.encode(image).shape == (1, 8, 5, 6)
    torch.testing.assert_close(network.upscale(network.encode(image), image), network(image), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 1}, "scale=1 must be at least 2"),
        ({"blocks": 0}, "blocks=0"),
        ({"in_channels": 4}, "residual=True adds the input of 4 channels to an output of 3"),
    ],
)
def test_bad_generators_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        GatedSRNet(**options)


@pytest.mark.parametrize("options", [{}, {"residual": False, "scale": 3}])
def test_scripted_generator_equals_eager_at_any_size(options):
    network = trained(**options)
    scripted = torch.jit.script(network)
    for size in ((7, 9), (1, 1)):
        image = torch.rand(2, 3, *size)
        torch.testing.assert_close(scripted(image), network(image), rtol=0, atol=1e-6)


def test_under_autocast_it_stays_near_full_precision():
    network, image = trained(), torch.rand(1, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        given = network(image)
    torch.testing.assert_close(given.float(), network(image), rtol=0, atol=0.02)


def test_onnx_export_with_dynamic_sizes_agrees_with_eager():
    network, image = trained(), torch.rand(2, 3, 17, 23)
    given = onnx_output(network, torch.rand(1, 3, 32, 32), image)
    np.testing.assert_allclose(given, network(image).detach().numpy(), atol=1e-4)
