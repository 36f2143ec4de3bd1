"""calibrate.json of the Bayesian bundle run as users run it, on small synthetic scenes and an untrained network."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigWorkflow

from monai_ext.commands.uncertainty.report import place_effect, read_run
from monai_ext.engines.uncertainty import KINDS
from monai_ext.handlers.training.weight_digests import weight_digests
from monai_ext.metrics.conformal import read_calibration
from monai_ext.phantoms.aerial import write_aerial_phantoms

BUNDLE = Path(__file__).parents[2] / "bundles" / "bayesian_srgan_aerial"
TINY = {
    "generator_features": 8,
    "blocks": 1,
    "latent_channels": 2,
    "texture_blocks": 1,
    "calibration_fraction": 0.4,
    "tiles_of_a_group": 3,
    "weight_samples": 2,
    "latent_samples": 2,
    "evaluated_samples": 3,
    "alpha": 0.3,
}


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory) -> tuple[Path, ConfigWorkflow]:
    folder = tmp_path_factory.mktemp("run")
    write_aerial_phantoms(folder / "data", count=20, size=(64, 64))
    write_aerial_phantoms(folder / "foreign", count=4, size=(64, 64), seed=1)  # under the same names
    workflow = ConfigWorkflow(
        config_file=[str(BUNDLE / "configs" / name) for name in ("train.json", "calibrate.json")],
        workflow_type="train",
        bundle_root=str(BUNDLE),
        dataset_dir=str(folder / "data"),
        output_dir=str(folder),
        foreign_dir=str(folder / "foreign"),
        **TINY,
    )
    workflow.initialize()
    torch.manual_seed(0)
    torch.save(workflow.parser.get_parsed_content("network_def").state_dict(), folder / "model.pt")
    workflow.run()
    workflow.finalize()
    return folder, workflow


def test_the_calibration_lies_beside_the_weights_and_the_report_in_its_folder(calibrated):
    folder, _ = calibrated
    assert {path.name for path in folder.iterdir()} >= {"model.pt", "calibration.json", "uncertainty"}
    names = {path.name for path in (folder / "uncertainty").iterdir()}
    assert names == {"summary.json", "tiles.csv", "reliability.png", "sparsification.png"}
    calibration = read_calibration(folder / "calibration.json")
    assert (calibration.alpha, calibration.method, calibration.kind) == (0.3, "crc", "total")
    assert (calibration.weight_samples, calibration.latent_samples) == (2, 2)
    assert calibration.weights == weight_digests([folder / "model.pt"])


def test_calibration_places_are_apart_from_training_validation_and_test(calibrated):
    folder, workflow = calibrated
    with (folder / "uncertainty" / "tiles.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    places = {group: {row["place"] for row in rows if row["group"] == group} for group in ("calibration", "test")}
    training, validation = (
        {item["place"] for item in workflow.parser.get_parsed_content("parts")[part]}
        for part in ("training", "validation")
    )
    assert all(places.values()) and training and validation
    assert not places["calibration"] & (places["test"] | training | validation)
    counts = {
        name: sum(row["group"] == name for row in rows) for name in ("calibration", "test", "training", "foreign")
    }
    assert counts["test"] == counts["training"] == counts["foreign"] == 3 and counts["calibration"] == len(
        places["calibration"]
    )


def test_every_kind_is_reported_with_settings_that_the_comparison_of_runs_reads(calibrated):
    folder, _ = calibrated
    summary = json.loads((folder / "uncertainty" / "summary.json").read_text())
    assert set(summary["groups"]) == {"calibration", "test", "training", "foreign"}
    for group in summary["groups"].values():
        assert set(group["kinds"]) == set(KINDS)
        assert {"diversity", "energy_score", "sample_crps", "lr_psnr_worst"} <= set(group["samples"])
        total = group["kinds"]["total"]
        assert {"uce", "ence", "ause", "winkler", "crps", "calibrated"} <= set(total)
        assert total["sd"] ** 2 >= max(group["kinds"][kind]["sd"] ** 2 for kind in KINDS[1:]) - 1e-9
    run = read_run(folder)
    assert run.settings == {"training_tiles": summary["settings"]["training_tiles"], "scale": 4, "noise": 0}
    assert len(place_effect(run).seen) == len(place_effect(run, "foreign").unseen) == 3
