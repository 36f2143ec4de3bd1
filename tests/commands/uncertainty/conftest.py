"""Fixtures of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from uncertainty_runs import evaluator, grouped, tiles

from monai_ext.handlers.super_resolution.uncertainty import UncertaintyReport
from monai_ext.metrics.conformal import ConformalRule
from monai_ext.transforms.degradation import Degradation


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "uncertainty"
    batches, groups, places = tiles()
    handler = UncertaintyReport(
        folder,
        grouped(groups, places),
        rule=ConformalRule(alpha=0.1),
        calibration_path=folder / "models" / "calibration.json",
        family="gaussian",
        degradation=Degradation(scale=2),
        settings={"training_tiles": 20, "scale": 2, "noise": 0.0, "seed": 0},
    )
    engine = evaluator(handler, batches)
    engine.run()
    before = {path: path.read_bytes() for path in folder.rglob("*.*") if path.suffix in (".json", ".csv")}
    engine.run()  # again: nothing is left of the first time
    assert before == {path: path.read_bytes() for path in before}
    return folder
