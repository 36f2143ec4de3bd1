from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx_export import onnx_output
from torch import nn

from monai_ext.networks.srresnet import SRResNet


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def small(**options) -> SRResNet:
    torch.manual_seed(0)
    return SRResNet(**{"features": 8, "blocks": 2, **options})


def test_default_generator_has_the_papers_parameters():
    # convolutions (those before a batch norm without bias), batch norms of 2 numbers a map, one slope for each PReLU
    head = 3 * 64 * 81 + 64 + 1
    block = 2 * (64 * 64 * 9 + 2 * 64) + 1
    merge = 64 * 64 * 9 + 2 * 64
    stage = 64 * 256 * 9 + 256 + 1
    tail = 64 * 3 * 81 + 3
    assert parameters(SRResNet()) == head + 16 * block + merge + 2 * stage + tail == 1_547_350


def test_parameter_names_of_the_generator_are_stable():
    names = list(SRResNet(features=8, blocks=1, scale=2).state_dict())
    assert [name for name in names if not name.startswith(("blocks.0.norm", "merge.1"))] == [
        "head.0.weight",
        "head.0.bias",
        "head.1.weight",
        "blocks.0.conv1.weight",
        "blocks.0.act.weight",
        "blocks.0.conv2.weight",
        "merge.0.weight",
        "upsampler.0.0.weight",
        "upsampler.0.0.bias",
        "upsampler.0.2.weight",
        "tail.0.weight",
        "tail.0.bias",
    ]


@pytest.mark.parametrize("scale", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("upsampling", ["stages", "direct"])
def test_output_is_scale_times_the_input_at_any_size(scale, upsampling):
    network = small(scale=scale, upsampling=upsampling, in_channels=5, out_channels=2).eval()
    for height, width in ((1, 1), (5, 7)):
        assert network(torch.rand(2, 5, height, width)).shape == (2, 2, scale * height, scale * width)


@pytest.mark.parametrize("options", [{"scale": 4}, {"scale": 3, "norm": None}])
def test_sub_pixel_convolutions_begin_without_a_checkerboard(options):
    network = small(**options)
    factor = 2 if options["scale"] == 4 else 3
    shuffled = network.upsampler[0](torch.rand(1, 8, 5, 6))
    cells = F.avg_pool2d(shuffled, factor)
    torch.testing.assert_close(shuffled, F.interpolate(cells, scale_factor=float(factor), mode="nearest"))
    assert cells.std() > 0


def test_direct_upsampling_begins_without_a_checkerboard():
    image = small(upsampling="direct")(torch.rand(1, 3, 5, 6))
    torch.testing.assert_close(image, F.interpolate(F.avg_pool2d(image, 4), scale_factor=4.0, mode="nearest"))


@pytest.mark.parametrize("upsampling", ["stages", "direct"])
def test_residual_network_begins_as_bicubic_enlargement_and_learns(upsampling):
    network, image = small(residual=True, norm=None, upsampling=upsampling), torch.rand(1, 3, 6, 5)
    bicubic = F.interpolate(image, scale_factor=4, mode="bicubic", align_corners=False)
    torch.testing.assert_close(network(image), bicubic, rtol=0, atol=0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (network(image) - 0.5).square().mean().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_network_without_norm_is_independent_of_the_batch_and_the_mode():
    network, images = small(norm=None).train(), torch.rand(3, 3, 6, 6)
    together = network(images)
    torch.testing.assert_close(together[:1], network(images[:1]))
    torch.testing.assert_close(together, network.eval()(images))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())


def test_residual_branches_without_norm_begin_ten_times_smaller():
    torch.manual_seed(0)
    block = SRResNet(features=32, blocks=1, norm=None).blocks[0]
    assert (block.conv2.weight.std() / block.conv1.weight.std()).item() == pytest.approx(0.1, rel=0.05)


def test_receptive_field_is_that_of_the_layers():
    network = small(norm=None, blocks=2).eval()
    image = torch.rand(1, 3, 31, 31, requires_grad=True)
    network(image)[0, 0, 15 * 4, 15 * 4].backward()
    seen = image.grad.abs().sum((0, 1)).nonzero()
    # at low resolution 4 + 2 x 2 + 1 pixels, then 1 at x1, 1 at x2 and 4 at x4: at most 9 + 1 + 1 + 1 + 1
    reach = (seen - 15).abs().max().item()
    assert 9 < reach <= 13


def test_convolutions_of_another_kind_are_handed_in():
    made: list[tuple[int, int, int]] = []

    class Doubled(nn.Module):
        def __init__(self, in_channels: int, out_channels: int, kernel: int, *, padding: int, bias: bool):
            super().__init__()
            made.append((in_channels, out_channels, kernel))
            self.inner = nn.Conv2d(in_channels, out_channels, kernel, padding=padding, bias=bias)

        def forward(self, x):
            return 2 * self.inner(x)

    network = small(conv=Doubled, scale=2, residual=True)
    assert made == [(3, 8, 9), *[(8, 8, 3)] * 4, (8, 8, 3), (8, 32, 3), (8, 3, 9)]
    assert not any(type(child) is nn.Conv2d for child in network.head.children())
    assert network(torch.rand(1, 3, 4, 4)).shape == (1, 3, 8, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 5}, "scale=5 must be a product of twos and threes"),
        ({"scale": 1}, "scale=1 must be"),
        ({"blocks": 0}, "blocks=0: all are at least 1"),
        ({"upsampling": "deconv"}, "upsampling='deconv' must be 'stages' or 'direct'"),
        ({"in_channels": 4, "residual": True}, "residual=True adds the input of 4 channels to an output of 3"),
    ],
)
def test_bad_generators_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        SRResNet(**options)


@pytest.mark.parametrize("options", [{}, {"norm": None, "residual": True}, {"upsampling": "direct", "scale": 3}])
def test_scripted_and_traced_generators_agree_with_eager_at_another_size(options):
    network = small(**options).eval()
    for parameter in network.tail.parameters():
        nn.init.normal_(parameter)
    image = torch.rand(2, 3, 7, 9)
    expected = network(image)
    torch.testing.assert_close(torch.jit.script(network)(image), expected)
    torch.testing.assert_close(torch.jit.trace(network, torch.rand(1, 3, 8, 8))(image), expected)


def test_onnx_export_with_dynamic_sizes_agrees_with_eager():
    network, image = small(residual=True).eval(), torch.rand(2, 3, 17, 23)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    given = onnx_output(network, torch.rand(1, 3, 32, 32), image)
    np.testing.assert_allclose(given, network(image).detach().numpy(), atol=1e-4)
