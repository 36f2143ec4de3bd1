"""Folded BatchNorm gets its statistics back before the first step of a new run."""

from __future__ import annotations

import logging

import torch
from ignite.engine import Engine
from torch import nn

from monai_ext.handlers.training.normalisation import BatchNormUnfolder


def folded() -> nn.Sequential:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    nn.init.constant_(network[1].bias, 0.5)  # gain 1, statistics 0 and 1
    return network


def run(network: nn.Module, *, epoch: int = 0) -> None:
    engine = Engine(lambda engine, batch: None)
    engine.data_loader = [torch.randn(3, 1, 4, 4) for _ in range(4)]
    engine.prepare_batch = lambda batch, device, non_blocking: (batch, None)
    engine.non_blocking, engine.state.device = False, "cpu"
    engine.state.epoch = epoch
    BatchNormUnfolder(network, images=5)._unfold(engine)


def test_as_many_images_as_wanted_give_the_statistics_and_outputs_stay(caplog):
    torch.manual_seed(0)
    network, image = folded(), torch.randn(2, 1, 4, 4)
    before = network.eval()(image)
    with caplog.at_level(logging.INFO):
        run(network)
    assert "1 folded BatchNorm layers from 5 images" in caplog.text
    assert network[1].running_mean.abs().min() > 0
    torch.testing.assert_close(network(image), before)


def test_a_resumed_run_and_a_network_without_folded_layers_are_left_alone():
    network = folded()
    run(network, epoch=1)
    assert not network[1].running_mean.any()
    run(nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)))
