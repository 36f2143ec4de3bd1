"""Networks trained in seconds on drawn scenes, and the questions that their uncertainty answers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from monai_ext.__main__ import main
from monai_ext.commands.uncertainty.checks import CheckSettings, uncertainty_checks
from monai_ext.commands.uncertainty.known_truth import interval_coverage
from monai_ext.commands.uncertainty.phantom_training import PhantomTraining, scene_deviations, train_on_scenes
from monai_ext.networks.uncertain_sr import UncertainSuperResolution, WeightEnsemble
from monai_ext.networks.variational import DropoutConv2d, VariationalConv2d
from monai_ext.phantoms.modes import draw_fields

TINY = PhantomTraining(steps=4, batch_size=2, crop_size=16, features=16, blocks=1, learning_rate=1e-3)


def scenes(count: int = 4) -> torch.Tensor:
    return torch.stack([draw_fields((32, 32), layout_seed=i, texture_seed=i) for i in range(count)])


class Toy(UncertainSuperResolution):
    """Answers with `level` + `spread` * noise, and says a variance of 0.04."""

    scale, latent_channels = 2, 1

    def __init__(self, level: float, spread: float):
        super().__init__()
        self.level, self.spread = level, spread

    def moments(self, low_res, noise):
        for draw in noise.unbind(1):
            mean = self.level + self.spread * nn.functional.interpolate(draw, scale_factor=2)
            yield mean, torch.full_like(mean, 0.04)


def test_parts_of_a_scene_are_those_of_its_members_and_a_part_that_is_not_there_is_nearly_zero():
    low_res = torch.zeros(2, 1, 32, 32)
    apart = WeightEnsemble([Toy(0.2, 0.1), Toy(0.6, 0.1)])
    draws = {"weight_samples": 2, "latent_samples": 8, "generator": torch.Generator().manual_seed(0)}
    parts = scene_deviations(apart, low_res, **draws)
    assert parts["aleatoric"].tolist() == pytest.approx([0.2] * 2)
    assert parts["ambiguity"].tolist() == pytest.approx([0.1] * 2, rel=0.05)
    assert parts["epistemic"].tolist() == pytest.approx([0.4 / 2**0.5] * 2, rel=0.05)
    alike = WeightEnsemble([Toy(0.2, 0.1), Toy(0.2, 0.1)])
    whole = scene_deviations(alike, low_res, **draws)["epistemic"]
    by_pixel = alike.uncertainty(
        low_res, weight_samples=2, latent_samples=8, generator=torch.Generator().manual_seed(0)
    )
    pixels = by_pixel["epistemic"].flatten(1).mean(1).sqrt()
    assert (whole < 0.01).all() and (pixels > 0.018).all()  # a fifth of the ambiguity, made of chance alone


def test_training_is_replayed_by_its_seed_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (train_on_scenes(scenes(), TINY, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before) and not first.training
    weights = [torch.cat([p.flatten() for p in network.parameters()]) for network in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_networks_say_less_noise_where_there_was_none_to_learn_and_have_the_weights_asked_for():
    plan = replace(TINY, steps=30, learning_rate=3e-3)
    flat = torch.rand(4, 3, 1, 1, generator=torch.Generator().manual_seed(0)).expand(-1, -1, 32, 32)

    def noise(network):
        return scene_deviations(network, plan.degradation(flat), latent_samples=2, weight_samples=1)["aleatoric"].mean()

    torch.manual_seed(0)
    start, learnt = plan.network().eval(), train_on_scenes(flat, plan)
    assert noise(learnt) < 0.97 * noise(start)
    for weights, layer in (("dropout", DropoutConv2d), ("variational", VariationalConv2d), ("none", nn.Conv2d)):
        network = train_on_scenes(scenes(), replace(TINY, weights=weights, steps=1))
        assert type(network.generator.blocks[0].conv1) is layer
        assert (network.distinct_weights() is None) == (weights != "none")


def test_intervals_that_are_twice_too_wide_are_made_to_cover_what_they_promise():
    """Errors have a deviation of 0.1, the network says 0.2: the central half of its distribution holds 82 %."""
    network, reduced = Toy(0.5, 0.0), lambda scenes, generator: scenes[..., ::2, ::2]
    generator = torch.Generator().manual_seed(0)
    calibration, test = (0.5 + 0.1 * torch.randn(50, 1, 32, 32, generator=generator) for _ in range(2))
    rows = interval_coverage(network, reduced, calibration, test, family="gaussian", latent_samples=2)
    assert [row["nominal"] for row in rows] == [0.5, 0.7, 0.8, 0.9, 0.95]
    rows = [rows[0], rows[3]]
    assert [row["before"] for row in rows] == pytest.approx([0.8226, 0.9990], abs=0.005)  # erf(2 z / sqrt(2))
    # conformal risk control asks for (n r + 1) / (n + 1) <= alpha
    assert [row["after"] for row in rows] == pytest.approx(
        [1 - (0.5 * 51 - 1) / 50, 1 - (0.1 * 51 - 1) / 50], abs=0.005
    )
    assert [row["multiplier"] for row in rows] == pytest.approx([0.35, 0.87], abs=0.02)


def test_coverage_before_calibration_is_that_of_the_predicted_family():
    """Errors are Laplace-distributed with just the variance that the network says."""
    network, reduced = Toy(0.5, 0.0), lambda scenes, generator: scenes[..., ::2, ::2]
    scale = torch.tensor(0.2 / 2**0.5)
    torch.manual_seed(0)
    calibration, test = (0.5 + torch.distributions.Laplace(0.0, scale).sample((50, 1, 32, 32)) for _ in range(2))
    rows = interval_coverage(network, reduced, calibration, test, family="laplace", latent_samples=2)
    assert [row["before"] for row in rows] == pytest.approx([0.5, 0.7, 0.8, 0.9, 0.95], abs=0.01)


def test_every_question_is_answered_with_numbers_and_a_figure(tmp_path, capsys, monkeypatch):
    settings = CheckSettings(
        training=TINY, members=2, scenes=(2, 4), scales=(2, 4), noises=(0.0, 0.1), asked=3, size=32, weight_samples=2,
        latent_samples=2, interval_scenes=24, mode_fields=2, mode_steps=2, mode_samples=3,
    )  # fmt: skip
    document = uncertainty_checks(tmp_path, settings)
    assert json.loads((tmp_path / "checks.json").read_text())["settings"]["members"] == 2
    for way in ("ensemble", "dropout", "variational"):
        places = document["epistemic_by_place"][way]
        assert [place["group"] for place in places] == ["unseen", "coarser", "furrows"]
        assert all(
            place["as_expected"] == (place["mean"] > place["seen_mean"] and place["probability"] > 0.5)
            for place in places
        )
        assert list(document["epistemic_by_amount"][way]["means"]) == ["2", "4"]
    assert list(document["ambiguity_by_scale"]["means"]) == ["2", "4"]
    assert list(document["aleatoric_by_noise"]["means"]) == ["0", "0.1"]
    rows = document["intervals"]["coverage"]
    assert [row["nominal"] for row in rows] == pytest.approx([0.5, 0.7, 0.8, 0.9, 0.95])
    assert all(abs(row["after"] - row["nominal"]) < 0.08 for row in rows)
    assert sum(document["modes"]["shares"]) == pytest.approx(1) and not document["modes"]["as_expected"]
    names = {path.name for path in tmp_path.iterdir()}
    figures = ("place", "amount", "ambiguity", "aleatoric", "intervals", "modes")
    assert names == {"checks.json", *(f"{name}.png" for name in figures)}
    for path in tmp_path.glob("*.png"):
        assert (np.asarray(Image.open(path).convert("L")) < 128).mean() > 0.005
    monkeypatch.setattr("monai_ext.commands.uncertainty.checks.uncertainty_checks", lambda *_: document)
    assert main(["uncertainty_checks", "--output_dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 16 and lines[0].startswith("epistemic, ensemble: ")
    assert lines[-3].startswith("aleatoric rises with noise: ") and "0.1: " in lines[-3]
    assert lines[-2].startswith("calibrated intervals reach their nominal coverage: ") and "90%: " in lines[-2]
    assert lines[-1].startswith("3 samples find all modes: NO (recall ")


def test_settings_that_ask_nothing_are_refused():
    with pytest.raises(ValueError, match=r"scenes=\[16\]: give two numbers or more, ascending"):
        CheckSettings(scenes=(16,))
    with pytest.raises(ValueError, match=r"noises=\[0.1, 0.0\]"):
        CheckSettings(noises=(0.1, 0.0))
    with pytest.raises(ValueError, match="members=1 must be at least 2"):
        CheckSettings(members=1)
