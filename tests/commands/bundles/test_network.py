"""The network of a bundle: its definition and weights, errors by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from upscaling_toys import repeating, repeating_bundle

from monai_ext.commands.bundles.network import load_bundle_network


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return repeating_bundle(tmp_path / "bundle")


def test_bundles_that_are_not_complete_are_told(tmp_path, bundle):
    with pytest.raises(FileNotFoundError, match="no configs/inference.json in the bundle"):
        load_bundle_network(tmp_path)
    with pytest.raises(FileNotFoundError, match="no weights at .*other.pt"):
        load_bundle_network(bundle, tmp_path / "other.pt")
    torch.save(repeating(5).state_dict(), tmp_path / "five.pt")
    with pytest.raises(ValueError, match="the weights .*five.pt' do not fit the network_def .*: it holds '0.weight' "):
        load_bundle_network(bundle, tmp_path / "five.pt")
    assert load_bundle_network(bundle)[1] != load_bundle_network(bundle, bundle / "models" / "model.pt")[0]


def test_weights_of_the_adversarial_stage_are_mixed_in_by_their_share(tmp_path, bundle):
    plain, digest = load_bundle_network(bundle)
    with pytest.raises(FileNotFoundError, match="no weights of an adversarial stage at .*adversarial.pt"):
        load_bundle_network(bundle, realism=0.5)
    other = {name: 3 * value for name, value in plain.state_dict().items()}
    torch.save(other, bundle / "models" / "adversarial.pt")
    torch.save(other, tmp_path / "own.pt")
    assert load_bundle_network(bundle)[1] == digest
    mixed, other_digest = load_bundle_network(bundle, realism=0.5)
    assert torch.equal(mixed[0].weight, 2 * plain[0].weight)
    assert len({digest, other_digest, load_bundle_network(bundle, realism=0.6)[1]}) == 3
    named = load_bundle_network(bundle, realism=1.0, adversarial_weights=tmp_path / "own.pt")[0]
    assert torch.equal(named[0].weight, other["0.weight"])


def test_a_network_is_built_with_the_settings_of_the_run_of_its_weights(tmp_path, bundle):
    config = json.loads((bundle / "configs" / "inference.json").read_text())
    config |= {"kernel": 5, "batch_size": 4}
    config["network_def"] = config["network_def"].replace("12, 3, padding=1", "12, @kernel, padding=@kernel // 2")
    (bundle / "configs" / "inference.json").write_text(json.dumps(config))
    run = tmp_path / "run"
    run.mkdir()
    torch.save(repeating().state_dict(), run / "model.pt")
    with pytest.raises(ValueError, match="do not fit"):
        load_bundle_network(bundle, run / "model.pt")
    (run / "run.json").write_text(json.dumps({"settings": {"kernel": 3, "batch_size": 16, "other": 1}}))
    network, digest = load_bundle_network(bundle, run / "model.pt")
    assert network[0].kernel_size == (3, 3)
    config["kernel"] = 3
    (bundle / "configs" / "inference.json").write_text(json.dumps(config))
    assert digest != load_bundle_network(bundle, run / "model.pt")[1]
