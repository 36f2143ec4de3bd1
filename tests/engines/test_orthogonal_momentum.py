from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from monai_ext.engines.orthogonal_momentum import (
    OrthogonalMomentum,
    convolution_matrices,
    generator_optimizer,
    orthogonalised,
)
from monai_ext.networks import GatedSRNet, SRResNet


def test_one_newton_schulz_step_by_hand():
    # diag(3, 4) / 5 = diag(0.6, 0.8); each singular value s becomes a s + b s^3 + c s^5
    found = orthogonalised(torch.diag(torch.tensor([3.0, 4.0], dtype=torch.float64))[None], steps=1)[0]
    expected = [3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5 for s in (0.6, 0.8)]
    torch.testing.assert_close(found, torch.diag(torch.tensor(expected, dtype=torch.float64)))
    assert expected[0] == pytest.approx(1.19327, abs=1e-5)


@pytest.mark.parametrize("shape", [(3, 16, 40), (2, 40, 16)])
def test_singular_vectors_stay_and_singular_values_come_near_one(shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape, dtype=torch.float64)
    u, s, vt = torch.linalg.svd(matrices, full_matrices=False)
    inner = u.mT @ orthogonalised(matrices) @ vt.mT
    values = inner.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(inner, torch.diag_embed(values), rtol=0, atol=1e-9)
    assert 0.6 < values.min() and values.max() < 1.3


class Matrix(nn.Module):
    def __init__(self, rows: int, columns: int):
        super().__init__()
        self.body = nn.Conv2d(columns, rows, 1, bias=False)


@pytest.mark.parametrize("shape", [(32, 24), (20, 48)])
def test_on_matrices_the_steps_are_those_of_torchs_muon(shape):
    torch.manual_seed(0)
    network = Matrix(*shape)
    matrix = nn.Parameter(network.body.weight.detach().clone().flatten(1))
    optimizer = OrthogonalMomentum(network, 0.02)
    peer = torch.optim.Muon([matrix], lr=0.02, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    start = matrix.detach().clone()
    for _ in range(4):
        matrix.grad = torch.randn(shape)
        network.body.weight.grad = matrix.grad.clone()[..., None, None]
        optimizer.step()
        peer.step()
    moved, expected = network.body.weight.detach().flatten(1) - start, matrix.detach() - start
    # torch iterates in bfloat16
    assert (moved - expected).norm() < 0.02 * expected.norm()


def test_all_else_takes_the_steps_of_adam_at_its_share_of_the_rate():
    torch.manual_seed(0)
    network, image = GatedSRNet(features=8, blocks=1), torch.rand(1, 3, 5, 6)  # eight maps are too few for a matrix
    peer = copy.deepcopy(network)
    optimizers = OrthogonalMomentum(network, 2e-3), torch.optim.Adam(peer.parameters(), lr=1e-3, betas=(0.9, 0.99))
    for _ in range(3):
        for model, optimizer in zip((network, peer), optimizers, strict=True):
            optimizer.zero_grad()
            (model(image) - 0.5).square().mean().backward()
            optimizer.step()
    for found, expected in zip(network.parameters(), peer.parameters(), strict=True):
        torch.testing.assert_close(found, expected)


def test_matrices_are_the_convolutions_between_features():
    for network, count in (
        (GatedSRNet(features=16, blocks=2), 2 * 4 + 1),
        (SRResNet(features=16, blocks=2), 2 * 2 + 3),
    ):
        found = convolution_matrices(network)
        names = {name for name, weight in network.named_parameters() if any(weight is matrix for matrix in found)}
        assert len(names) == len(found) == count
        assert not any(name.startswith(("head", "tail")) for name in names)
        groups = OrthogonalMomentum(network).param_groups
        assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


def test_state_survives_saving_and_clearing():
    def steps(network: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            (network(torch.linspace(0, 1, 75).reshape(1, 3, 5, 5)) - 0.5).square().mean().backward()
            optimizer.step()

    torch.manual_seed(0)
    whole = GatedSRNet(features=16, blocks=1)
    resumed = copy.deepcopy(whole)
    optimizer, first, second = OrthogonalMomentum(whole), OrthogonalMomentum(resumed), OrthogonalMomentum(resumed)
    steps(whole, optimizer, 4)
    steps(resumed, first, 2)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    steps(resumed, second, 2)
    assert all(torch.equal(*pair) for pair in zip(whole.parameters(), resumed.parameters(), strict=True))
    optimizer.state.clear()  # as at the beginning of stage two
    steps(whole, optimizer, 1)


def test_weights_without_a_gradient_stay():
    network = GatedSRNet(features=16, blocks=1)
    before = copy.deepcopy(network.state_dict())
    OrthogonalMomentum(network).step()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_generators_optimiser_is_chosen_by_name():
    network = nn.Conv2d(16, 16, 3)
    muon, adam = (generator_optimizer(network, name, lr=0.01) for name in ("muon", "adam"))
    assert type(muon) is OrthogonalMomentum and type(adam) is torch.optim.Adam
    for optimizer in (muon, adam):
        group = optimizer.param_groups[0]
        assert group["lr"] == 0.01 and group["betas"] == (0.9, 0.99)
    with pytest.raises(ValueError, match="optimizer_name='sgd': choose adam or muon"):
        generator_optimizer(network, "sgd", lr=0.01)
