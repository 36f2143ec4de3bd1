"""Batches, networks and outputs in the memory layout and number format of the engines."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from monai_ext.engines.batches import as_float32, laid_out, prepared, to_channels_last


@pytest.mark.parametrize("further", [(), ((1, 2), {"samples": 3})], ids=["none", "given"])
def test_a_batch_is_images_in_the_engines_layout_targets_and_further_arguments(further):
    images, targets = torch.rand(2, 3, 4, 5), torch.rand(2, 1, 4, 5)
    calls = []

    def prepare(batch, device, non_blocking, **kwargs):
        calls.append((batch, device, non_blocking, kwargs))
        return (images, targets, *further)

    engine = SimpleNamespace(
        prepare_batch=prepare, state=SimpleNamespace(device="cpu"), non_blocking=True, to_kwargs={"copy": True},
        memory_format=torch.channels_last,
    )  # fmt: skip
    inputs, labels, args, kwargs = prepared(engine, {"image": images})
    assert calls == [({"image": images}, "cpu", True, {"copy": True})]
    assert torch.equal(inputs, images) and inputs.is_contiguous(memory_format=torch.channels_last)
    assert labels is targets and (args, kwargs) == (further or ((), {}))


def test_only_images_of_two_axes_have_a_layout():
    volumes = torch.rand(1, 2, 3, 4, 5)
    assert laid_out(volumes, torch.channels_last) is volumes
    images = torch.rand(1, 2, 3, 4)
    assert laid_out(images, None) is images


def test_a_network_is_laid_out_only_if_wanted():
    network = nn.Conv2d(2, 3, 3)
    assert to_channels_last(network, False) is None and network.weight.is_contiguous()
    assert to_channels_last(network, True) is torch.channels_last
    assert network.weight.is_contiguous(memory_format=torch.channels_last)


def test_tensors_become_float32_and_dictionaries_stay():
    assert as_float32(torch.ones(1, dtype=torch.bfloat16)).dtype == torch.float32
    output = {"mean": torch.ones(1, dtype=torch.bfloat16)}
    assert as_float32(output) is output and output["mean"].dtype == torch.bfloat16
