"""Tables of records with several known targets."""

from __future__ import annotations

import csv

import pytest
import torch
from uncertainty_runs import Loader, Toy, evaluator, tiles

from monai_ext.engines.uncertainty import UncertaintyInferer
from monai_ext.handlers.super_resolution.many_hr_table import ManyHighResTable
from monai_ext.metrics.sample_sets import SampleSetScores, sample_distance


def test_the_set_of_samples_is_scored_with_the_set_of_targets(tmp_path):
    batch = {key: values[:5] for key, values in tiles()[0][0].items()}
    noise = 0.05 * torch.randn(5, 2, *batch["label"].shape[1:], generator=torch.Generator().manual_seed(1))
    batch["targets"] = torch.cat([batch["label"][:, None], batch["label"][:, None] + noise], 1)
    evaluator(ManyHighResTable(tmp_path, {"scale": 2}, shown=1, bands=(0, 0, 0)), Loader([batch])).run()
    with (tmp_path / "tiles.csv").open() as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    answers = UncertaintyInferer(weight_samples=3, latent_samples=2, samples=4)(batch["image"], Toy())
    of_label, of_set = SampleSetScores(), SampleSetScores()
    of_label(answers["samples"], batch["label"])
    of_set(answers["samples"], batch["targets"])
    for i, name in enumerate(batch["id"]):
        for prefix, scores in (("", of_label), ("set_", of_set)):
            for key, values in scores.per_image().items():
                assert float(rows[name][prefix + key]) == pytest.approx(values[i].item(), rel=1e-4), (prefix, key)
        distance = sample_distance(batch["targets"][i : i + 1]).item()
        assert float(rows[name]["target_distance"]) == pytest.approx(distance, rel=1e-4)
