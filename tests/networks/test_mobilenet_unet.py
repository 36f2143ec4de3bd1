from __future__ import annotations

import numpy as np
import pytest
import torch
from imagenet_weights import saved
from onnx_export import onnx_output
from torch import nn

from monai_ext.networks import MobileNetV2UNet


@pytest.mark.parametrize("size", [(1, 1), (31, 33), (64, 64), (50, 97)])
def test_output_has_the_size_of_the_input(size):
    network = MobileNetV2UNet(out_channels=2, width=0.25).eval()
    assert network(torch.rand(2, 3, *size)).shape == (2, 2, *size)


def test_padding_is_cropped_back_exactly():
    network = MobileNetV2UNet(width=0.25).eval()
    image = torch.rand(1, 3, 40, 70)
    padded = torch.nn.functional.pad(image, (0, 26, 0, 24), mode="replicate")
    torch.testing.assert_close(network(image), network(padded)[..., :40, :70])


def test_unknown_width_is_refused():
    with pytest.raises(ValueError, match=r"width=0.9 .* choose one of"):
        MobileNetV2UNet(width=0.9)


def test_scripted_and_traced_networks_agree_with_eager_at_another_size():
    network = MobileNetV2UNet(width=0.25).eval()
    image = torch.rand(1, 3, 45, 70)
    expected = network(image)
    torch.testing.assert_close(torch.jit.script(network)(image), expected)
    traced = torch.jit.trace(network, torch.rand(1, 3, 64, 64))
    torch.testing.assert_close(traced(image), expected)


def test_onnx_export_with_dynamic_sizes_agrees_with_eager():
    network, image = MobileNetV2UNet(width=0.25).eval(), torch.rand(2, 3, 45, 70)
    given = onnx_output(network, torch.rand(1, 3, 64, 64), image)
    np.testing.assert_allclose(given, network(image).detach().numpy(), atol=1e-4)


def test_frozen_norms_stay_as_they_were_loaded_while_all_else_learns(tmp_path):
    source = MobileNetV2UNet(width=0.25)
    torch.manual_seed(0)
    for layer in source.encoder.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.bias.data.normal_()
    path = saved(source.encoder.state_dict(), tmp_path)
    network = MobileNetV2UNet(width=0.25, encoder_weights=path, frozen_norm=True).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    network(torch.rand(2, 3, 64, 64)).sum().backward()
    optimizer.step()
    kept = {name for name, value in network.state_dict().items() if torch.equal(value, before[name])}
    norms = {name for name, layer in network.encoder.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    assert {f"encoder.{name}.{part}" for name in norms for part in ("running_mean", "weight", "bias")} <= kept
    assert "encoder.features.0.0.weight" not in kept and not network.eval().encoder.training
    assert network.train().decoder.blocks[0].training and network.encoder.training
