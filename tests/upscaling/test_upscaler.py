"""What does not go together: network, layers, bands."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
import torch
from torch import nn
from upscaling_toys import ALL, Toy, noise, read, repeating, save_picture, toy, upscaler

from monai_ext.engines import precision as precision_module
from monai_ext.networks.gated_sr_net import GatedSRNet
from monai_ext.raster.opening import open_raster
from monai_ext.upscaling import upscale_file
from monai_ext.upscaling.layers import Layers
from monai_ext.upscaling.upscaler import Upscaler


def test_networks_that_are_none_for_upscaling_are_refused():
    with pytest.raises(
        ValueError, match="for a window of shape .1, 3, 24, 24. the network returns an output of shape .1, 5, 24, 24."
    ):
        upscaler(nn.Conv2d(3, 5, 1))
    with pytest.raises(ValueError, match="ReLU has neither an attribute in_channels nor a convolution"):
        upscaler(nn.ReLU())


def test_layers_need_a_network_of_distributions_and_the_same_bands(tmp_path):
    plain = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))
    with pytest.raises(ValueError, match="Sequential predicts a single image: samples, bounds and uncertainty need"):
        Upscaler(plain, ALL)
    with pytest.raises(ValueError, match="no layer beside the mean: choose"):
        Upscaler(Toy(), Layers())
    source = save_picture(tmp_path / "a.png", noise(1, 8, 8))
    with pytest.raises(ValueError, match="takes 3 bands and the image has 1: samples and uncertainty need a network"):
        upscale_file(source, tmp_path / "b.png", upscaler=toy(Layers(samples=1)))


@pytest.mark.parametrize("size", [(20, 24), (61, 50)])
@pytest.mark.parametrize("residual", [False, True])
def test_a_picture_is_upscaled_as_by_the_network_up_to_its_borders(tmp_path, size, residual):
    torch.manual_seed(0)
    network = GatedSRNet(features=8, blocks=2, residual=residual).eval()
    nn.init.normal_(network.tail[0].weight, std=0.05)  # it begins at zero
    pixels = noise(3, *size)
    upscale_file(save_picture(tmp_path / "a.png", pixels), tmp_path / "b.png", upscaler=upscaler(network, overlap=12))
    with torch.no_grad():
        expected = network(torch.from_numpy(pixels)[None] / 255)[0].clamp(0, 1) * 255
    assert np.abs(read(tmp_path / "b.png") - expected.numpy()).max() <= 0.5 + 1e-3  # rounding


@pytest.mark.parametrize(
    ("precision", "dtype", "enabled"),
    [("auto", np.uint8, True), ("auto", np.uint16, False), ("bf16", np.uint16, True), ("fp32", np.uint8, False)],
)
def test_bfloat16_is_for_pixels_of_8_bits_unless_it_is_chosen(tmp_path, monkeypatch, precision, dtype, enabled):
    monkeypatch.setattr(precision_module, "cpu_vendor", lambda: "AuthenticAMD")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    source = save_picture(tmp_path / "a.png", noise(1, 8, 8, dtype=dtype))
    with closing(open_raster(source)) as raster:
        autocast = upscaler(repeating(1), precision=precision).plan(raster).autocast
    assert autocast._enabled is enabled and autocast.fast_dtype == torch.bfloat16
