"""TensorBoard's writer in several processes, and the tab of a run at a glance."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from monai_ext.handlers import (
    MainProcessWriter,
)
from monai_ext.handlers.training.tensorboard import LAYOUT

RECIPES = sorted((Path(__file__).parents[3] / "bundles").glob("*/configs/train.json"))


def test_writer_of_another_process_makes_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("monai_ext.handlers.training.tensorboard.is_main_process", lambda: False)
    writer = MainProcessWriter(tmp_path / "tb")
    writer.add_scalar("x", 1.0, 1)
    writer.flush(), writer.close()
    assert not (tmp_path / "tb").exists()


def charts_of(tag):
    return [name for name, (_, patterns) in LAYOUT["run"].items() if any(re.match(each, tag) for each in patterns)]


@pytest.mark.parametrize(
    ("tag", "chart"),
    [
        ("train/loss", "loss"),
        ("validation/loss", "loss"),
        ("train/pixel", "loss"),
        ("train/discriminator", "loss"),
        ("train/learning_rate", "learning rate"),
        ("train/learning_rate_discriminator", "learning rate"),
        ("validation/mean_dice", "validation"),
        ("validation/qubiq_score", "validation"),
        ("health/active_latents", "health"),
        ("validation/head02_dice_gap", "health"),
        ("train/fake_score", "health"),
        ("validation/dice_rater01", None),
        ("result/best_epoch", None),
    ],
)
def test_each_curve_is_in_its_chart_alone(tag, chart):
    assert charts_of(tag) == ([] if chart is None else [chart])


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.parents[1].name)
def test_the_score_that_chooses_the_weights_is_in_the_tab_of_the_run(recipe):
    (name,) = json.loads(recipe.read_text(encoding="utf-8"))["validate"]["key_metric"]
    assert charts_of(f"validation/{name.removeprefix('val_')}") == ["validation"]
