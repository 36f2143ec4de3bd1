"""U-Nets of pictures for volumes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_ext.engines.batches import to_channels_last
from monai_ext.networks import SlicewiseUNet, segmentation_backbone


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return segmentation_backbone("mobilenet_v2", spatial_dims=3, spacing=(1, 1, 3), out_channels=2).eval()


def spread_of_a_slice(network: nn.Module) -> list[bool]:
    """Slices of seven whose logits depend on the fourth."""
    volume = torch.rand(1, 1, 32, 32, 7)
    changed = volume.clone()
    changed[..., 3] = torch.rand(32, 32)
    with torch.no_grad():
        return [bool(found) for found in (network(volume) - network(changed)).abs().amax((0, 1, 2, 3)) > 0]


def test_training_begins_with_the_network_of_single_slices(network):
    volume = torch.rand(2, 1, 20, 40, 5)
    flat = segmentation_backbone("mobilenet_v2", out_channels=2).eval()
    flat.network.load_state_dict(network.network.network.state_dict())
    with torch.no_grad():
        expected = torch.stack([flat(plane) for plane in volume.unbind(-1)], dim=-1)
        torch.testing.assert_close(network(volume), expected)


def test_slices_then_learn_from_two_slices_on_each_side(network):
    assert spread_of_a_slice(network) == [place == 3 for place in range(7)]
    inner: SlicewiseUNet = network.network
    for exchange in inner.exchanges:
        nn.init.normal_(exchange.beside.weight, std=0.1)
    assert spread_of_a_slice(network) == [1 <= place <= 5 for place in range(7)]


def test_an_exchange_is_a_convolution_along_the_slices_of_each_case_alone(network):
    exchange = network.network.exchanges[0]
    nn.init.normal_(exchange.beside.weight)
    slices = torch.rand(6, 16, 2, 3)
    expected = slices.clone()
    for place in range(6):
        for other in range(place // 3 * 3, place // 3 * 3 + 3):
            if abs(other - place) <= 1:
                weight = exchange.beside.weight[:, :, other - place + 1, 0]
                expected[place] += torch.einsum("of,fhw->ohw", weight, slices[other])
    torch.testing.assert_close(exchange(slices, 2), expected)


def test_engines_leave_its_memory_as_it_is(network):
    assert to_channels_last(network, True) is None


def test_every_parameter_learns():
    torch.manual_seed(0)
    learner = segmentation_backbone("efficientnet_lite0", spatial_dims=3).train()
    learner(torch.rand(2, 1, 32, 32, 3)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learner.parameters())
