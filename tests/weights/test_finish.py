"""Weights in half precision, without the mean lattice of the generator."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_ext.networks import GatedSRNet
from monai_ext.phantoms.aerial import write_aerial_phantoms
from weights.finish import main, mean_lattice


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiles")
    write_aerial_phantoms(folder, count=3, size=(32, 32))
    return folder


class Lattice(nn.Module):
    """Bicubic interpolation, and a step at one of the 16 sub-pixel places of the second channel."""

    def forward(self, low_res):
        image = nn.functional.interpolate(low_res, scale_factor=4, mode="bicubic")
        image[:, 1, 2::4, 3::4] += 0.16
        return image


def test_the_lattice_is_found_at_its_place(tiles):
    plain = mean_lattice(Lattice(), sorted(tiles.glob("*.png"))).reshape(3, 16)
    assert plain.sum(1).abs().max() < 1e-6
    assert plain.argmax().item() == 16 + 2 * 4 + 3 and plain.max().item() == pytest.approx(0.15, abs=0.02)


def test_weights_are_halved_and_the_lattice_taken_off_the_last_bias(tiles, tmp_path):
    torch.manual_seed(0)
    network = GatedSRNet()
    state = network.state_dict()
    state["tail.0.bias"] = torch.randn(48) * 0.05
    torch.save(state, tmp_path / "final.pt")
    main(str(tmp_path / "final.pt"), str(tmp_path / "a" / "plain.pt"))
    main(*map(str, (tmp_path / "final.pt", tiles, tmp_path / "level.pt")))
    main(str(tmp_path / "final.pt"), str(tmp_path / "again.pt"))
    assert (tmp_path / "again.pt").read_bytes() == (tmp_path / "a" / "plain.pt").read_bytes()
    plain, level = (torch.load(tmp_path / name, weights_only=True) for name in ("a/plain.pt", "level.pt"))
    assert {value.dtype for value in plain.values()} == {torch.float16}
    assert [name for name in plain if not torch.equal(plain[name], level[name])] == ["tail.0.bias"]
    images = sorted(tiles.glob("*.png"))
    for weights, smallest, largest in ((plain, 0.01, 1), (level, 0, 1e-3)):
        network.load_state_dict(weights)
        assert smallest <= mean_lattice(network.eval(), images).square().mean().sqrt() < largest
