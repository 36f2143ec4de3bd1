"""The moving average of weights."""

from __future__ import annotations

import copy

import pytest
import torch
from small_batches import Batches, network
from torch import nn

from monai_ext.engines import BatchTrainer, ModelEMA

CPU = torch.device("cpu")


def test_average_follows_the_warmed_up_recursion():
    net = nn.Linear(1, 1, bias=False)
    average = ModelEMA(net, decay=0.5)
    expected = None
    for step, value in enumerate([2.0, 4.0, 8.0, 16.0, 32.0]):
        with torch.no_grad():
            net.weight.fill_(value)
        average.update_parameters(net)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = value if expected is None else decay * expected + (1 - decay) * value
        assert average.module.weight.item() == pytest.approx(expected)


def test_average_includes_batch_norm_statistics_and_leaves_the_network_alone():
    net = nn.BatchNorm1d(2)
    average = ModelEMA(net, decay=0.9)
    for _ in range(3):
        net(torch.randn(8, 2) + 5)
        average.update_parameters(net)
    assert 0 < average.module.running_mean.mean() < net.running_mean.mean()
    assert average.module.num_batches_tracked == net.num_batches_tracked


def test_average_with_zero_decay_is_the_network_itself():
    net = network()
    average = ModelEMA(net, decay=0.0)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    trainer = BatchTrainer(CPU, 2, Batches(), net, optimizer, nn.BCEWithLogitsLoss(), average=average)
    trainer.run()
    for name, value in average.module.state_dict().items():
        torch.testing.assert_close(value, net.state_dict()[name])


def test_average_sees_tensors_that_the_network_replaced():
    net = network()
    average = ModelEMA(net, decay=0.0)
    average.update_parameters(net)
    net.double().float()  # parameters keep their place and change their data, buffers are new tensors
    net[1].running_mean.fill_(3)
    with torch.no_grad():
        net[0].weight.fill_(2)
    average.update_parameters(net)
    assert average.module[0].weight.unique().item() == 2 and average.module[1].running_mean.unique().item() == 3


def test_a_copy_of_the_average_is_on_its_own():
    net = network()
    average = ModelEMA(net, decay=0.0)
    average.update_parameters(net)
    twin = copy.deepcopy(average)
    with torch.no_grad():
        net[0].weight.fill_(5)
    twin.update_parameters(net)
    assert twin.module[0].weight.unique().item() == 5 and (average.module[0].weight != 5).all()
    assert set(twin.state_dict()) == {"n_averaged", *(f"module.{name}" for name in net.state_dict())}


def test_weights_that_layers_share_are_averaged_once():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    average = ModelEMA(net)
    average.update_parameters(net)
    before = net[0].weight.detach().clone()
    with torch.no_grad():
        net[0].weight.zero_()
    average.update_parameters(net)
    torch.testing.assert_close(average.module[1].weight.detach(), before * 2 / 11)


def test_average_refuses_another_network():
    average = ModelEMA(network())
    with pytest.raises(ValueError, match="not the one that was averaged so far"):
        average.update_parameters(nn.Linear(1, 1))


def test_average_refuses_a_decay_of_one():
    with pytest.raises(ValueError, match=r"decay=1 must be in \[0, 1\)"):
        ModelEMA(nn.Linear(1, 1), decay=1)
