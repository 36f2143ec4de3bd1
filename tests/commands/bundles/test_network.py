"""The network of a bundle: its definition and weights, errors by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from upscaling_toys import repeating

from monai_ext.commands.bundles.network import load_bundle_network


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    definition = "$torch.nn.Sequential(torch.nn.Conv2d(3, 12, 3, padding=1, bias=False), torch.nn.PixelShuffle(2))"
    config = {"imports": ["$import torch"], "network_def": definition}
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    torch.save(repeating().state_dict(), folder / "models" / "model.pt")
    return folder


def test_bundles_that_are_not_complete_are_told(tmp_path, bundle):
    with pytest.raises(FileNotFoundError, match="no configs/inference.json in the bundle"):
        load_bundle_network(tmp_path)
    with pytest.raises(FileNotFoundError, match="no weights at .*other.pt"):
        load_bundle_network(bundle, tmp_path / "other.pt")
    torch.save(repeating(5).state_dict(), tmp_path / "five.pt")
    with pytest.raises(ValueError, match="the weights .*five.pt' do not fit the network_def"):
        load_bundle_network(bundle, tmp_path / "five.pt")
    assert load_bundle_network(bundle)[1] != load_bundle_network(bundle, bundle / "models" / "model.pt")[0]
