"""Gradients: frozen, and averaged over processes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_ext.engines import gradients
from monai_ext.engines.gradients import average_over_ranks, frozen


def test_frozen_restores_only_what_it_froze_also_after_an_error():
    layer = nn.Linear(2, 1)
    layer.bias.requires_grad_(False)
    with pytest.raises(KeyError), frozen(layer):
        assert not layer.weight.requires_grad
        raise KeyError
    assert layer.weight.requires_grad and not layer.bias.requires_grad


def test_gradients_and_buffers_become_means_over_the_processes(monkeypatch):
    network = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    for weight in network.parameters():
        weight.grad = torch.full_like(weight, 2.0)
    counter = network[1].num_batches_tracked.clone()

    def another_process(message):
        message += 4.0  # its gradients and statistics, all 4

    monkeypatch.setattr(gradients, "is_distributed", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", another_process)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    average_over_ranks(network)
    assert all(torch.equal(weight.grad, torch.full_like(weight, 3.0)) for weight in network.parameters())
    assert network[1].running_mean.item() == 2.0 and network[1].running_var.item() == 2.5  # (0 + 4) / 2, (1 + 4) / 2
    assert torch.equal(network[1].num_batches_tracked, counter)
