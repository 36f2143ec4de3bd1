"""Tables of a stochastic network: scores of its mean, samples and variances."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from uncertainty_runs import ALEATORIC, OVERCONFIDENCE, Loader, Toy, evaluator, tiles

from monai_ext.engines.uncertainty import UncertaintyInferer
from monai_ext.handlers.super_resolution.bayesian_table import SampleTable
from monai_ext.metrics.conformal import Calibration
from monai_ext.metrics.sample_sets import SampleSetScores
from monai_ext.metrics.super_resolution import SuperResolutionScores
from monai_ext.transforms.degradation import Degradation


@pytest.mark.parametrize("levels", [None, 65535])
def test_rows_are_the_scores_of_each_tile(tmp_path, levels):
    batches, _, _ = tiles()
    if levels:
        batches[0]["levels"] = torch.full((len(batches[0]["id"]),), levels)
    calibration = Calibration("crc", 0.1, None, (1.7,), weight_samples=3, latent_samples=2)
    scores = {"scale": 2, "degradation": Degradation(scale=2)}
    table = SampleTable(tmp_path, scores, calibration=calibration, shown=1, bands=(0, 0, 0))
    evaluator(table, Loader(batches[:1])).run()
    with (tmp_path / "tiles.csv").open() as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    batch = batches[0]
    answers = UncertaintyInferer(weight_samples=3, latent_samples=2, samples=4)(batch["image"], Toy())
    expected = SuperResolutionScores(scale=2, degradation=Degradation(scale=2), levels=levels or 255)
    expected(answers["mean"], batch["label"], low_res=batch["image"])
    sets = SampleSetScores(degradation=Degradation(scale=2), levels=levels or 255)
    sets(answers["samples"], batch["label"], low_res=batch["image"])
    lower, upper = calibration.apply(answers["mean"], answers["total"])
    inside = ((lower <= batch["label"]) & (batch["label"] <= upper)).float().flatten(1).mean(1)
    for i, name in enumerate(batch["id"]):
        row = {key: float(value) for key, value in rows[name].items() if key not in ("id", "place", "method")}
        assert row["mean_psnr"] == pytest.approx(expected.per_image()["psnr"][i].item(), rel=1e-4)
        assert row["mean_lr_psnr"] == pytest.approx(expected.per_image()["lr_psnr"][i].item(), rel=1e-4)
        assert row["lr_psnr_worst"] == pytest.approx(sets.per_image()["lr_psnr_worst"][i].item(), rel=1e-4)
        assert row["aleatoric_sd"] == pytest.approx(ALEATORIC / OVERCONFIDENCE, rel=1e-4)
        assert row["calibrated_coverage"] == pytest.approx(inside[i].item(), rel=1e-4)
        assert row["calibrated_width"] == pytest.approx((upper - lower)[i].mean().item(), rel=1e-4)
        steps = levels or 255
        rounded = (answers["samples"][i].double() * steps).round() / steps
        gap = (Degradation(scale=2).reduce(rounded) - batch["image"][i]).abs().max().item()
        assert row["lr_gap"] == pytest.approx(gap, rel=1e-3)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["draws"] == {"weight_samples": 3, "latent_samples": 2, "samples": 4} and summary["tiles"] == 45
    assert (tmp_path / "samples.png").is_file()
