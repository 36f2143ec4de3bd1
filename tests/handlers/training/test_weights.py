"""Weights between two checkpoints."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from monai_ext.handlers.training.weight_digests import weight_digests
from monai_ext.handlers.training.weights import interpolated_weights, load_weights, trained_network, unwrapped
from monai_ext.networks import LevelSetNet, RaterHeads


@pytest.fixture
def files(tmp_path):
    torch.save({"w": torch.tensor([1.0, -2.0]).half(), "n": torch.tensor(3)}, tmp_path / "first.pt")
    torch.save({"w": torch.tensor([3.0, 2.0]).half(), "n": torch.tensor(5)}, tmp_path / "second.pt")
    return tmp_path / "first.pt", tmp_path / "second.pt"


@pytest.mark.parametrize(("share", "expected"), [(0, [1, -2]), (0.25, [1.5, -1]), (1, [3, 2])])
def test_floating_values_are_interpolated_and_counters_kept(files, share, expected):
    state = interpolated_weights(*files, share)
    assert state["w"].tolist() == expected and state["n"] == 3


def test_a_share_of_0_needs_no_second_file_and_others_are_refused(files, tmp_path):
    assert interpolated_weights(files[0], tmp_path / "none.pt", 0)["w"].dtype == torch.float16
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        interpolated_weights(files[0], tmp_path / "none.pt", 0.5)
    with pytest.raises(ValueError, match="realism=1.5: choose a share from 0"):
        interpolated_weights(*files, 1.5)
    torch.save({"w": torch.ones(3), "n": torch.tensor(5)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="hold different networks"):
        interpolated_weights(files[0], tmp_path / "other.pt", 0.5)


def test_a_network_gets_the_weights_between(tmp_path):
    networks = [nn.Linear(2, 1) for _ in range(3)]
    for name, network in zip("ab", networks, strict=False):
        torch.save(network.state_dict(), tmp_path / f"{name}.pt")
    load_weights(networks[2], tmp_path / "a.pt", towards=tmp_path / "b.pt", realism=0.5)
    assert torch.allclose(networks[2].weight, (networks[0].weight + networks[1].weight) / 2)
    load_weights(networks[2], tmp_path / "b.pt")
    assert torch.equal(networks[2].weight, networks[1].weight)


def test_weights_of_another_network_are_refused_with_a_sentence(tmp_path):
    network = nn.Linear(3, 2)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    other = nn.Linear(3, 2)
    load_weights(other, tmp_path / "model.pt")
    assert torch.equal(other.weight, network.weight)
    with pytest.raises(
        ValueError,
        match=r"model.pt' holds another network, 0 of the 2 tensors fit \(it holds 'weight' 2x3, 'bias' 2, and the "
        r"network has 'weight' 3x4, 'bias' 3\): name weights of this bundle",
    ):
        load_weights(nn.Linear(4, 3), tmp_path / "model.pt")
    with pytest.raises(FileNotFoundError, match="nothing.pt"):
        load_weights(other, tmp_path / "nothing.pt")
    torch.save(network.state_dict() | {"more": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(
        ValueError,
        match=r"2 of the 2 tensors fit and 1 of the checkpoint are left over \(it holds 'more' 1, and .* no others",
    ):
        load_weights(other, tmp_path / "model.pt")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"params_ema": state, "params": {}},
        lambda state: {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {f"_orig_mod.module.{name}": value for name, value in state.items()},
        lambda state: {"model": {"state_dict": state}, "optimizer": {"lr": 0.1}},
        lambda state: {"net_g": state, "step": torch.tensor(5)},
        lambda state: AveragedModel(_with(state)).state_dict(),
    ],
    ids=["basicsr", "lightning", "compiled", "nested", "beside a tensor", "averaged"],
)
def test_weights_wrapped_by_other_programs_are_unwrapped(tmp_path, wrap):
    network, other = nn.Linear(2, 1), nn.Linear(2, 1)
    torch.save(wrap(network.state_dict()), tmp_path / "wrapped.pt")
    torch.save(network.state_dict(), tmp_path / "plain.pt")
    load_weights(other, tmp_path / "wrapped.pt")
    assert torch.equal(other.weight, network.weight) and torch.equal(other.bias, network.bias)
    assert weight_digests([tmp_path / "wrapped.pt"]) == weight_digests([tmp_path / "plain.pt"])


def test_what_only_looks_wrapped_stays_as_it_is():
    state = {"module.w": torch.zeros(1), "head.w": torch.zeros(1)}
    assert unwrapped(state) is state and unwrapped([1]) == [1] and unwrapped({"epoch": 3}) == {"epoch": 3}
    kept = {"model": {}, "scale": torch.ones(1)}
    assert unwrapped(kept) is kept


def _with(state):
    network = nn.Linear(2, 1)
    network.load_state_dict(state)
    return network


def test_a_generator_is_taken_out_of_a_larger_model(tmp_path):
    network, other = nn.Linear(2, 1), nn.Linear(2, 1)
    state = {f"generator.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": state | {"discriminator.weight": torch.zeros(1)}}, tmp_path / "gan.pt")
    load_weights(other, tmp_path / "gan.pt")
    assert torch.equal(other.weight, network.weight)
    torch.save(state | {f"copy.{name}": value for name, value in network.state_dict().items()}, tmp_path / "two.pt")
    with pytest.raises(
        ValueError,
        match=r"it holds 'generator.weight' 1x2, .* and 1 more, and the network has 'weight' 1x2, 'bias' 1\)",
    ):
        load_weights(other, tmp_path / "two.pt")


def test_one_checkpoint_is_loaded_and_several_are_an_ensemble(tmp_path):
    paths = [tmp_path / f"{name}.pt" for name in "abc"]
    members = [nn.Linear(4, 1) for _ in paths]
    for path, member in zip(paths, members, strict=True):
        torch.save(member.state_dict(), path)
    network, image = nn.Linear(4, 1), torch.randn(5, 4)
    assert trained_network(network, paths[:1]) is network and torch.equal(network(image), members[0](image))
    ensemble = trained_network(network, f"[{', '.join(map(str, paths))}]")
    assert torch.allclose(ensemble(image).sigmoid(), sum(member(image).sigmoid() for member in members) / 3)
    assert not ensemble.training and torch.equal(network(image), members[0](image))
    for wrong in ([], [paths[0], paths[0]]):
        with pytest.raises(ValueError, match="each member of an ensemble once"):
            trained_network(network, wrong)


def test_methods_for_several_raters_become_a_deep_ensemble(tmp_path):
    paths = [tmp_path / "a.pt", tmp_path / "b.pt"]
    method = LevelSetNet(nn.Conv2d(1, 1, 1))
    members = [copy.deepcopy(method), LevelSetNet(nn.Conv2d(1, 1, 1))]
    for path, member in zip(paths, members, strict=True):
        torch.save(member.state_dict(), path)
    image = torch.randn(2, 1, 3, 3)
    share = trained_network(method, paths).predict(image, 2).share
    assert torch.allclose(share, sum(member.predict(image, 2).share for member in members) / 2)
    with pytest.raises(ValueError, match="without a head for each"):
        heads = RaterHeads(nn.Conv2d(1, 2, 1))
        for path in paths:
            torch.save(heads.state_dict(), path)
        trained_network(heads, paths)
