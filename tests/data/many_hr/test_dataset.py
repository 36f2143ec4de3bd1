"""Training and evaluation on records with many answers: which answer is shown, and scores against all of them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import bundle_runs
import numpy as np
import pytest
from bundle_runs import BUNDLES, rows, run_bundle
from monai.utils import set_determinism

from monai_ext.data.many_hr.build import build_many_hr
from monai_ext.data.many_hr.dataset import ManyHighResDataset, many_hr_items
from monai_ext.data.many_hr.plan import ManyHrSettings
from monai_ext.data.tiles.listing import tile_items
from monai_ext.metrics.sample_sets import best_of_samples, sample_distance
from monai_ext.phantoms.aerial import write_aerial_phantoms
from monai_ext.transforms.degradation import Degradation
from monai_ext.transforms.many_high_res import ManyHighResCrops

BUNDLE = BUNDLES / "bayesian_srgan_aerial"


DEGRADATION = Degradation(4, levels=255)


ANSWERS = 3


TINY = {
    "generator_features": 8, "blocks": 1, "latent_channels": 2, "texture_blocks": 1, "discriminator_features": 4,
    "crop_size": 32, "batch_size": 4, "pretrain_epochs": 1, "adversarial_epochs": 1, "val_interval": 1,
    "log_interval": 2, "weight_samples": 2, "latent_samples": 2, "evaluated_samples": 4, "shown_tiles": 2,
}  # fmt: skip


workflow = partial(bundle_runs.workflow, BUNDLE.name)


@pytest.fixture(scope="module")
def many_hr(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    write_aerial_phantoms(folder / "tiles", count=16, size=(64, 64))
    settings = ManyHrSettings(
        targets=ANSWERS, size=64, patches=300, candidates=4, test_fraction=0.2, validation_fraction=0.2
    )
    items = tile_items(folder / "tiles")
    build_many_hr(items, folder / "many_hr", degradation=Degradation(4), records=16, settings=settings)
    return folder / "many_hr"


def test_the_low_resolution_made_here_is_the_stored_one(many_hr):
    crops = ManyHighResCrops(DEGRADATION)
    for record in ManyHighResDataset(many_hr):
        made = crops.apply({"label": record["label"][None]}, crops.draw(1))
        stored = record["image"] / 255
        assert (made["image"][0] - stored).abs().max() < 1e-6
        others = DEGRADATION(made["targets"][0])
        assert (others - stored).abs().max() < 2.5 / 255 and ((others - stored).abs() < 1e-6).float().mean() > 0.99


@pytest.fixture(scope="module")
def trained(many_hr, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    set_determinism(seed=0)
    run_bundle(BUNDLE.name, ["train.json", "many_hr.json"], dataset_dir=str(many_hr), output_dir=str(folder), **TINY)
    return folder


def test_a_run_learns_from_the_sets_own_parts(many_hr, trained):
    parts = {part: many_hr_items(many_hr, part=part) for part in ("training", "validation", "test")}
    settings = json.loads((trained / "run.json").read_text())["settings"]
    assert settings["training_tiles"] + settings["calibration_tiles"] == len(parts["training"])
    assert settings["validation_tiles"] == len(parts["validation"])
    assert [row["epoch"] for row in rows(trained / "epochs.csv")] == ["1", "2"]
    run = workflow(["train.json", "many_hr.json"], dataset_dir=str(many_hr), targets=2, **TINY)
    batch = next(iter(run.parser.get_parsed_content("train#dataloader")))
    assert batch["image"].shape == (4, 3, 8, 8) and batch["label"].shape == (4, 3, 32, 32)
    assert run.parser.get_parsed_content("train#dataset")[0]["label"].shape == (2, 3, 64, 64)


def test_evaluation_scores_the_samples_against_every_answer(many_hr, trained):
    files = ["train.json", "many_hr.json", "evaluate.json", "many_hr_evaluate.json"]
    run = run_bundle(BUNDLE.name, files, dataset_dir=str(many_hr), output_dir=str(trained), **TINY)
    summary = json.loads((trained / "evaluation" / "summary.json").read_text())
    table = rows(trained / "evaluation" / "tiles.csv")
    test = many_hr_items(many_hr, part="test")
    assert [row["id"] for row in table] == [item["id"] for item in test] and summary["tiles"] == len(test)
    names = {"set_best_psnr", "set_energy_distance", "set_precision", "set_recall", "set_mode_recall", "mean_psnr"}
    assert names <= set(summary["scores"]) and "set_lr_psnr_worst" not in summary["scores"]
    # the first record again, by hand
    pair = ManyHighResDataset(many_hr, part="test")[0]
    answers = pair["label"][None] / 255
    assert float(table[0]["target_distance"]) == pytest.approx(sample_distance(answers).item(), rel=1e-4)
    network, inferer = (run.parser.get_parsed_content(name) for name in ("asked", "validate#inferer"))
    inferer.restart()
    batch = next(iter(run.parser.get_parsed_content("validate#dataloader")))
    samples = inferer(batch["image"], network)["samples"][:1]
    best = -20 * np.log10(best_of_samples(samples, answers)).mean()
    assert float(table[0]["set_best_psnr"]) == pytest.approx(best.item(), rel=1e-3)
