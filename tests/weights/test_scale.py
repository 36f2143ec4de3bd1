"""The scale of the noise follows the errors after it was fitted, and nothing else changes."""

from __future__ import annotations

import torch

from monai_ext.networks import bayesian_srresnet
from monai_ext.phantoms.aerial import write_aerial_phantoms
from monai_ext.transforms import Degradation
from weights.scale import fit_scale, main
from weights.tiles import HELD_OUT

OPERATOR = Degradation(4, levels=255)


def built(**options):
    torch.manual_seed(0)
    return bayesian_srresnet(3, OPERATOR, generator_name="gated", blocks=1, wide_scale=True, **options).eval()


def test_the_likelihood_rises_and_only_the_layers_of_the_scale_change(tmp_path):
    write_aerial_phantoms(tmp_path, count=2, size=(96, 96))
    network, tiles = built(features=8), sorted(tmp_path.glob("*.png"))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first = fit_scale(network, tiles, OPERATOR, steps=1)
    assert fit_scale(network, tiles, OPERATOR, steps=60) < first - 0.1
    changed = {
        name.split(".")[0] for name, value in network.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"scale_net"}


def test_a_run_is_fitted_on_tiles_of_the_places_that_are_not_held_out(tmp_path, monkeypatch):
    write_aerial_phantoms(tmp_path, count=2, size=(64, 64))
    tiles = sorted(tmp_path.glob("*.png"))
    rows = "".join(f"{path.name},{place}\n" for path, place in zip(tiles, ("bern", HELD_OUT[0]), strict=True))
    (tmp_path / "manifest.csv").write_text("file,place\n" + rows)
    fitted = []
    monkeypatch.setattr("weights.scale.fit_scale", lambda network, paths, degradation: fitted.extend(paths))
    torch.manual_seed(1)
    network = bayesian_srresnet(3, OPERATOR, generator_name="gated", blocks=16)  # with one layer for the scale
    torch.save(network.state_dict(), tmp_path / "final.pt")
    main(*map(str, (tmp_path / "final.pt", tmp_path, 0, tmp_path / "fitted.pt")))
    assert fitted == tiles[:1]
    made = torch.load(tmp_path / "fitted.pt", weights_only=True)
    assert torch.equal(made["generator.head.weight"], network.generator.head.weight) and "scale_net.2.weight" in made
