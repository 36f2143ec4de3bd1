"""Calibration and the report of a run's uncertainty."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import torch.nn.functional as F
from PIL import Image
from uncertainty_runs import ALEATORIC, AMBIGUITY, COUNTS, OVERCONFIDENCE, Toy, evaluator, grouped, tiles

from monai_ext.engines.uncertainty import KINDS, UncertaintyInferer
from monai_ext.handlers.super_resolution.uncertainty import UncertaintyReport, group_tiles
from monai_ext.metrics.conformal import ConformalRule, read_calibration
from monai_ext.metrics.sample_sets import SampleSetScores
from monai_ext.metrics.uncertainty import UncertaintyScores
from monai_ext.transforms.degradation import Degradation


@pytest.fixture(scope="module")
def summary(reported) -> dict:
    return json.loads((reported / "summary.json").read_text())


def test_a_report_leaves_these_files_and_no_others(reported):
    names = {str(path.relative_to(reported)) for path in reported.rglob("*") if path.is_file()}
    assert names == {
        "models/calibration.json", "summary.json", "tiles.csv", "reliability.png", "sparsification.png"
    }  # fmt: skip


def test_calibrated_intervals_hold_their_promise_on_tiles_of_the_test(summary):
    for group in ("test", "training"):
        total = summary["groups"][group]["kinds"]["total"]
        assert total["calibrated"]["coverage"] == pytest.approx(0.9, abs=0.02), group
        assert total["coverage"] < 0.75  # as predicted
    assert summary["groups"]["test"]["kinds"]["total"]["calibrated"]["winkler"] < total["winkler"]


def test_the_multiplier_makes_up_for_the_overconfidence(reported, summary):
    calibration = read_calibration(reported / "models" / "calibration.json")
    said = math.sqrt((ALEATORIC**2 + AMBIGUITY**2) / OVERCONFIDENCE**2 + 1e-4)
    # errors are Gaussian of 0.05: 1.645 of these; a little more for the image of the worst loss that may come
    assert calibration.multiplier[0] == pytest.approx(1.645 * 0.05 / said, rel=0.08)
    assert (calibration.images, calibration.places, calibration.kind) == (120, 10, "total")
    assert (calibration.weight_samples, calibration.latent_samples, calibration.delta) == (3, 2, None)
    assert summary["groups"]["test"]["kinds"]["total"]["calibrated"]["multiplier"] == pytest.approx(
        list(calibration.multiplier), rel=1e-5
    )


def test_every_kind_is_scored_as_the_metric_does_group_by_group(summary):
    batches, groups, _ = tiles()
    inferer = UncertaintyInferer(weight_samples=3, latent_samples=2, samples=4)
    scores = {kind: UncertaintyScores(alpha=0.1) for kind in KINDS}
    sets = SampleSetScores(degradation=Degradation(scale=2))
    for batch in batches:
        answers = inferer(batch["image"], Toy())
        rows = [i for i, name in enumerate(batch["id"]) if groups[name] == "test"]
        for kind in KINDS if rows else ():
            scores[kind](answers["mean"][rows], batch["label"][rows], variance=answers[kind][rows])
        if rows:
            sets(answers["samples"][rows], batch["label"][rows], low_res=batch["image"][rows])
    part = summary["groups"]["test"]
    for kind in KINDS:
        given = {name: part["kinds"][kind][name] for name in scores[kind].aggregate()}
        assert given == pytest.approx(scores[kind].aggregate(), rel=1e-4)
    assert part["samples"] == pytest.approx(sets.aggregate(), rel=1e-4)
    assert part["tiles"] == 40 and part["places"] == 10


def test_the_table_has_a_row_for_each_tile_whose_means_are_those_of_the_summary(reported, summary):
    with (reported / "tiles.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(COUNTS.values()) and len({row["id"] for row in rows}) == len(rows)
    for group, count in COUNTS.items():
        members = [row for row in rows if row["group"] == group]
        total = summary["groups"][group]["kinds"]["total"]
        assert len(members) == count
        covered = np.mean([float(row["calibrated_coverage"]) for row in members])
        assert covered == pytest.approx(total["calibrated"]["coverage"], abs=1e-5)
        assert np.mean([float(row["winkler"]) for row in members]) == pytest.approx(total["winkler"], rel=1e-4)
    by_place = summary["groups"]["test"]["calibrated_coverage_of_places"]
    assert by_place["lowest"] < 0.9 + 0.02 and by_place["lowest"] <= by_place["highest"]


def test_each_calibration_place_is_also_scored_by_intervals_of_the_others(summary, tmp_path, caplog):
    left_out = summary["coverage_of_places_left_out"]
    assert sorted(left_out) == [f"place {i}" for i in range(10)]  # all alike but for chance
    assert all(share == pytest.approx(0.9, abs=0.03) for share in left_out.values())
    batches, groups, places = tiles()
    for batch in batches:  # errors of one place are three times as large
        rows = [places[name] == "place 3" for name in batch["id"]]
        mean = F.interpolate(batch["image"][rows], scale_factor=2.0)
        batch["label"][rows] = mean + 3 * (batch["label"][rows] - mean)
    with caplog.at_level("INFO"):
        evaluator(UncertaintyReport(tmp_path, grouped(groups, places), rule=ConformalRule()), batches, samples=0).run()
    left_out = json.loads((tmp_path / "summary.json").read_text())["coverage_of_places_left_out"]
    assert left_out["place 3"] < 0.6 and min(left_out[f"place {i}"] for i in (1, 2, 4, 5)) > 0.85
    assert f"each calibration place by the others: {left_out['place 3']:.1%} (place 3) to " in caplog.text


def test_curves_of_the_summary_are_what_they_should_be(summary):
    total = summary["groups"]["test"]["kinds"]["total"]
    nominal, found = (np.array(total["reliability"][name]) for name in ("nominal", "found"))
    assert (found < nominal).all() and np.all(np.diff(found) > 0)
    ambiguity = summary["groups"]["test"]["kinds"]["ambiguity"]["sparsification"]
    assert ambiguity["by_uncertainty"] == pytest.approx([1] * 100, abs=1e-6)  # the same everywhere: no order
    assert ambiguity["oracle"][0] == 1 and ambiguity["oracle"][-1] < 0.05


def test_figures_are_pictures_with_something_in_them(reported):
    for name in ("reliability.png", "sparsification.png"):
        pixels = np.asarray(Image.open(reported / name).convert("L"))
        assert pixels.shape[1] > 3 * 300 and (pixels < 128).mean() > 0.01


def test_no_samples_asked_for_are_no_samples_scored(tmp_path, caplog):
    batches, groups, _ = tiles()
    evaluator(UncertaintyReport(tmp_path, grouped(groups), rule=ConformalRule()), batches, samples=0).run()
    assert "are few" not in caplog.text  # 120 are enough
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["groups"]["test"]["samples"] is None and summary["draws"]["samples"] == 0
    assert summary["groups"]["test"]["places"] == 40  # none are known: each tile its own
    assert summary["coverage_of_places_left_out"] == {}
    assert (tmp_path / "calibration.json").is_file()


def test_few_calibration_tiles_are_warned_of_for_their_wide_intervals(tmp_path, caplog):
    batches, groups, _ = tiles()
    few = {name: "calibration" if name.startswith("training") else "test" for name in groups}
    evaluator(UncertaintyReport(tmp_path, grouped(few), rule=ConformalRule()), batches, samples=0).run()
    assert "20 calibration tiles are few for 'crc': intervals of nominally 90% cover 94." in caplog.text


def test_groups_are_spread_over_their_tiles_and_never_share_one():
    parts = {"calibration": [{"id": f"c{i}"} for i in range(5)], "test": [{"id": f"t{i}"} for i in range(9)], "x": []}
    items = group_tiles(parts, at_most=3)
    assert [item["id"] for item in items] == ["c0", "c1", "c2", "c3", "c4", "t0", "t3", "t6"]
    assert [item["group"] for item in items] == 5 * ["calibration"] + 3 * ["test"]
    assert len(group_tiles(parts)) == 14
    with pytest.raises(ValueError, match="tile 'c2' is in the groups 'calibration' and 'x'"):
        group_tiles(parts | {"x": [{"id": "c2"}]})
    with pytest.raises(ValueError, match="at_most=0"):
        group_tiles(parts, at_most=0)


def test_errors_of_the_report_name_the_way_out(tmp_path):
    batches, groups, _ = tiles()
    with pytest.raises(ValueError, match="no tile is of the group 'calibration'"):
        UncertaintyReport(tmp_path, grouped(dict.fromkeys(groups, "test")), rule=ConformalRule())
    only = {name: "calibration" if name == "test_00" else "test" for name in groups}
    with pytest.raises(ValueError, match="1 images are too few"):
        evaluator(UncertaintyReport(tmp_path, grouped(only), rule=ConformalRule()), batches).run()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="samples=-1"):
        UncertaintyInferer(samples=-1)
