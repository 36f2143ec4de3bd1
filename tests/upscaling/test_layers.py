"""Layers: the network's samples and moments, identical however an image is cut."""

from __future__ import annotations

import pytest
import torch
from upscaling_toys import ALL, NOISE_SD, Toy

from monai_ext.inferers.tiled import TiledInferer
from monai_ext.networks.srresnet import SRResNet
from monai_ext.networks.uncertain_sr import PointSuperResolution
from monai_ext.networks.variational import VariationalConv2d
from monai_ext.upscaling.counter_noise import CounterNoise
from monai_ext.upscaling.layers import DEVIATIONS, LayerNetwork, Layers, pixel_positions


def test_layers_are_the_networks_for_the_noise_of_the_positions():
    network, low_res = Toy().eval(), torch.rand(1, 3, 9, 8)
    found = LayerNetwork(network, ALL)(low_res, pixel_positions(0, 9, 8)).unflatten(
        1, (-1, 3)
    )  # (1, layers, 3, 18, 16)
    layers = dict(zip(ALL.names, found.unbind(1), strict=True))
    field = CounterNoise(1, seed=0)
    rows, columns = torch.arange(9), torch.arange(8)
    with torch.no_grad():
        for draw in range(2):
            expected = network(low_res, field.at(draw, rows, columns)[None]).clamp(0, 1)
            torch.testing.assert_close(layers[f"sample {draw + 1}"], expected)
        draws = torch.stack([field.at(draw, rows, columns) for draw in range(-6, 0)]).view(1, 3, 2, 1, 9, 8)
        generator = torch.Generator().manual_seed(1)
        parts = network.uncertainty(low_res, weight_samples=3, latent_samples=2, generator=generator, noise=draws)
    torch.testing.assert_close(layers["mean"], parts["mean"])
    for name in DEVIATIONS:
        torch.testing.assert_close(layers[name].square(), parts[name], atol=1e-7, rtol=1e-5)
    assert layers["aleatoric"].allclose(torch.tensor(NOISE_SD))
    assert layers["epistemic"].max() > 0 and layers["ambiguity"].max() > 0
    total = sum(layers[name].square() for name in DEVIATIONS[:3])
    torch.testing.assert_close(total, layers["total"].square(), atol=1e-7, rtol=1e-4)
    torch.testing.assert_close(layers["lower"], (parts["mean"] - 2 * layers["total"]).clamp(0, 1))
    torch.testing.assert_close(layers["upper"], (parts["mean"] + 2 * layers["total"]).clamp(0, 1))


def test_without_bounds_and_uncertainty_the_mean_is_the_plain_output():
    network, low_res = Toy().eval(), torch.rand(2, 3, 6, 7)
    found = LayerNetwork(network, Layers(samples=1))(low_res, pixel_positions(0, 6, 7).expand(2, -1, -1, -1))
    with torch.no_grad():
        torch.testing.assert_close(found[:, :3], network(low_res))


@pytest.mark.parametrize(("mode", "tolerance"), [("halo", 2e-5), ("feather", 0.02)])  # feather depends on window edges
def test_cut_into_windows_all_layers_are_those_of_the_whole(mode, tolerance):
    torch.manual_seed(0)
    network, low_res = LayerNetwork(Toy().eval(), ALL), torch.rand(1, 3, 50, 41)
    whole = network(low_res, pixel_positions(0, 50, 41))
    tiled = TiledInferer(20, 6, mode=mode, batch_size=2)(low_res, network, aligned=pixel_positions(0, 50, 41))
    torch.testing.assert_close(tiled, whole, atol=tolerance, rtol=0)


def test_without_a_latent_samples_come_from_the_weights_alike_in_all_windows():
    generator = SRResNet(features=4, blocks=1, scale=2, norm=None, conv=VariationalConv2d)
    network = PointSuperResolution(generator).eval()
    low_res = torch.rand(1, 3, 30, 30)
    whole = LayerNetwork(network, Layers(samples=3))(low_res, pixel_positions(0, 30, 30))
    tiled = TiledInferer(28, 20)(low_res, LayerNetwork(network, Layers(samples=3)), aligned=pixel_positions(0, 30, 30))
    torch.testing.assert_close(tiled[..., 24:-24, 24:-24], whole[..., 24:-24, 24:-24], atol=1e-5, rtol=0)
    samples = whole.unflatten(1, (4, 3))[:, 1:]
    assert (samples[:, 0] - samples[:, 1]).abs().max() > 1e-4


@pytest.mark.parametrize("choices", [{"samples": -1}, {"weight_samples": 0}, {"latent_samples": 0}])
def test_numbers_of_samples_are_checked(choices):
    with pytest.raises(ValueError, match="samples=.* must not be negative, weight_samples=.* must be at least 1"):
        Layers(**choices)
