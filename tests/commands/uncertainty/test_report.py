"""Uncertainty from the evaluator to calibrated intervals, report and figures, on toys whose answers are known."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from monai_ext.__main__ import main
from monai_ext.commands.comparison.results import ResultsError
from monai_ext.commands.uncertainty.report import QUESTIONS, place_effect, read_run, report, trend
from monai_ext.engines.uncertainty import KINDS, UncertaintyEvaluator, UncertaintyInferer
from monai_ext.handlers.super_resolution.uncertainty import UncertaintyReport, group_tiles
from monai_ext.handlers.super_resolution.uncertainty_figures import reliability_figure, sparsification_figure
from monai_ext.metrics.conformal import ConformalRule, read_calibration
from monai_ext.metrics.sample_sets import SampleSetScores
from monai_ext.metrics.uncertainty import UncertaintyScores
from monai_ext.transforms.degradation import Degradation

ALEATORIC, AMBIGUITY = 0.03, 0.04  # true standard deviations
OVERCONFIDENCE = 2.0  # the toy says half of both
COUNTS = {"calibration": 120, "test": 40, "training": 20}


class Toy(torch.nn.Module):
    """Knows the answer but for plain noise, whose size it underrates; sure of dark places, doubtful in bright ones."""

    def uncertainty(self, low_res, *, weight_samples, latent_samples, generator):
        mean = F.interpolate(low_res, scale_factor=2.0)
        one = torch.ones_like(mean)
        parts = {
            "aleatoric": one * (ALEATORIC / OVERCONFIDENCE) ** 2,
            "ambiguity": one * (AMBIGUITY / OVERCONFIDENCE) ** 2,
            "epistemic": torch.where(mean > 0.5, 1e-4, 1e-5) * one,
        }
        return {"mean": mean, "total": sum(parts.values())} | parts

    def sample(self, low_res, n, *, generator):
        mean = F.interpolate(low_res, scale_factor=2.0)[:, None]
        noise = torch.randn(len(mean), n, *mean.shape[2:], generator=generator)
        return mean + AMBIGUITY / OVERCONFIDENCE * noise


def tiles() -> tuple[list[dict], dict[str, str], dict[str, str]]:
    """Batches of 45 tiles, group and place of each; those learnt from are dark, and groups share batches."""
    generator = torch.Generator().manual_seed(0)
    names = [f"{group}_{i:02d}" for group, count in COUNTS.items() for i in range(count)]
    groups = {name: name.split("_")[0] for name in names}
    order = torch.randperm(len(names), generator=generator).tolist()
    names = [names[i] for i in order]
    dark = torch.tensor([groups[name] == "training" for name in names]).view(-1, 1, 1, 1)
    low_res = torch.where(dark, 0.3, 0.6) + 0.1 * torch.rand(len(names), 1, 8, 8, generator=generator)
    sd = math.hypot(ALEATORIC, AMBIGUITY)
    label = F.interpolate(low_res, scale_factor=2.0) + sd * torch.randn(len(names), 1, 16, 16, generator=generator)
    places = {name: f"place {name[-1]}" for name in names}
    batches = [
        {"id": names[i : i + 45], "image": low_res[i : i + 45], "label": label[i : i + 45]}
        for i in range(0, len(names), 45)
    ]
    return batches, groups, places


def grouped(groups: dict[str, str], places: dict[str, str] | None = None) -> list[dict[str, str]]:
    return [{"id": name, "group": group, "place": (places or {}).get(name, "")} for name, group in groups.items()]


def evaluator(handler: UncertaintyReport, batches: list[dict], samples: int = 4) -> UncertaintyEvaluator:
    inferer = UncertaintyInferer(weight_samples=3, latent_samples=2, samples=samples)
    return UncertaintyEvaluator(
        torch.device("cpu"), batches, Toy(), inferer=inferer, val_handlers=[handler], precision="fp32"
    )


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


def test_figures_show_the_numbers_they_are_given():
    curve = ([0.0, 0.5, 1.0], [0.0, 0.4, 1.0])
    axis = reliability_figure({"test": {"total": curve}}, {"test": 0.91}, promised=0.9).axes[0]
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axis.lines}
    assert drawn["total"] == [[0, 0], [50, 40], [100, 100]] and drawn["total, after calibration"] == [[90, 91]]
    axis = sparsification_figure({"test": {"total": curve}}, {"test": curve}).axes[0]
    assert {line.get_label() for line in axis.lines} == {"random order", "total", "oracle"}
    assert axis.lines[1].get_xydata().tolist() == [[0, 0], [50, 0.4], [100, 1]]


def test_no_samples_asked_for_are_no_samples_scored(tmp_path, caplog):
    batches, groups, _ = tiles()
    evaluator(UncertaintyReport(tmp_path, grouped(groups), rule=ConformalRule()), batches, samples=0).run()
    assert "are few" not in caplog.text  # 120 are enough
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["groups"]["test"]["samples"] is None and summary["draws"]["samples"] == 0
    assert summary["groups"]["test"]["places"] == 40  # none are known: each tile its own
    assert (tmp_path / "calibration.json").is_file()


def test_few_calibration_tiles_are_warned_of_for_their_wide_intervals(tmp_path, caplog):
    batches, groups, _ = tiles()
    few = {name: "calibration" if name.startswith("training") else "test" for name in groups}
    evaluator(UncertaintyReport(tmp_path, grouped(few), rule=ConformalRule()), batches, samples=0).run()
    assert "20 calibration tiles are few for 'crc': intervals of nominally 90% cover 94." in caplog.text


def test_every_run_of_the_inferer_draws_the_same_samples_and_calls_differ():
    low_res = torch.rand(1, 1, 4, 4)
    inferer = UncertaintyInferer(samples=2)
    first, second = (inferer(low_res, Toy())["samples"] for _ in range(2))
    inferer.restart()
    assert torch.equal(inferer(low_res, Toy())["samples"], first) and not torch.equal(first, second)


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


def write_run(folder: Path, settings: dict, **deviations: list[float]) -> Path:
    """A report of three test tiles with these standard deviations, and of two training tiles with half of them."""
    (folder / "uncertainty").mkdir(parents=True)
    (folder / "uncertainty" / "summary.json").write_text(json.dumps({"settings": settings}))
    columns = {kind: deviations.get(kind, [0.1, 0.1, 0.1]) for kind in KINDS}
    lines = [",".join(["id", "place", "group", *(f"{kind}_sd" for kind in KINDS)])]
    for i in range(3):
        lines.append(",".join([f"t{i}", "p", "test", *(str(columns[kind][i]) for kind in KINDS)]))
    for i in range(2):
        lines.append(",".join([f"s{i}", "q", "training", *(str(columns[kind][i] / 2) for kind in KINDS)]))
    (folder / "uncertainty" / "tiles.csv").write_text("\n".join(lines) + "\n")
    return folder


BASE = {"training_tiles": 100, "scale": 4, "noise": 0.0}


def question(kind: str):
    return next(q for q in QUESTIONS if q.kind == kind)


def test_a_real_report_is_read_and_its_bright_places_are_the_doubtful_ones(reported):
    run = read_run(reported.parent)
    assert run.settings == {"training_tiles": 20, "scale": 2, "noise": 0}
    effect = place_effect(run)
    assert effect.rises and effect.probability == 1.0
    assert effect.unseen.mean() == pytest.approx(255 * math.sqrt(1e-4), rel=1e-4) and len(effect.seen) == 20
    assert place_effect(run, "elsewhere") is None


def test_trends_are_taken_over_runs_that_differ_in_one_setting_and_over_common_tiles(tmp_path):
    folders = [
        write_run(tmp_path / "a", BASE, aleatoric=[0.01, 0.02, 0.03]),
        write_run(tmp_path / "b", BASE | {"noise": 0.1}, aleatoric=[0.05, 0.01, 0.06]),
        write_run(tmp_path / "c", BASE | {"noise": 0.1}, aleatoric=[0.07, 0.01, 0.06]),  # another seed
        write_run(tmp_path / "d", BASE | {"noise": 0.2, "scale": 2}, aleatoric=[0.0, 0.0, 0.0]),
    ]
    found = trend([read_run(folder) for folder in folders], question("aleatoric"))
    assert found.values.tolist() == [0.0, 0.1] and found.runs == (1, 2)
    assert found.tiles[1] == pytest.approx([255 * 0.06, 255 * 0.01, 255 * 0.06])
    assert found.moved == pytest.approx(2 / 3) and found.as_expected


def test_the_report_answers_every_question_and_draws_it(tmp_path, capsys):
    folders = [
        write_run(tmp_path / "base", BASE, epistemic=[0.04, 0.05, 0.06]),
        write_run(tmp_path / "more", BASE | {"training_tiles": 400}, epistemic=[0.02, 0.02, 0.07]),
        write_run(tmp_path / "noisy", BASE | {"noise": 0.02}, aleatoric=[0.1, 0.2, 0.2]),
        write_run(tmp_path / "coarse", BASE | {"scale": 8}, ambiguity=[0.1, 0.05, 0.1]),
    ]
    assert main(["uncertainty_report", *map(str, folders), "--output_dir", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "epistemic rises in group test: yes",
        "epistemic falls with training tiles: yes",
        "ambiguity rises with scale: NO",
        "aleatoric rises with noise: yes",
    ]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"uncertainty.json", "epistemic.png", "ambiguity.png", "aleatoric.png"}
    answers = json.loads((tmp_path / "out" / "uncertainty.json").read_text())["answers"]
    fell = answers["epistemic_falls_with_training_tiles"]
    assert fell["tiles_moved_as_expected"] == pytest.approx(2 / 3) and fell["tiles"] == 3
    assert [row["mean"] for row in fell["values"]] == pytest.approx([255 * 0.05, 255 * 0.11 / 3])
    assert len(answers["epistemic_rises_in_group_test"]["runs"]) == 4


def test_every_group_of_other_places_is_asked_by_itself(tmp_path):
    folder = write_run(tmp_path / "run", BASE, epistemic=[0.04, 0.05, 0.06])
    with (folder / "uncertainty" / "tiles.csv").open("a") as file:
        file.write("f0,z,foreign,0.1,0.1,0.1,0.01\nc0,y,calibration,0.1,0.1,0.1,0.9\n")
    answers = report([read_run(folder)], tmp_path / "out")
    asked = {name: answer["as_expected"] for name, answer in answers.items() if name.startswith("epistemic_rises")}
    assert asked == {"epistemic_rises_in_group_test": True, "epistemic_rises_in_group_foreign": False}
    assert (tmp_path / "out" / "epistemic.png").is_file()


def test_what_one_run_cannot_answer_is_said_and_not_drawn(tmp_path):
    answers = report([read_run(write_run(tmp_path / "run", BASE))], tmp_path / "out")
    assert answers["epistemic_rises_in_group_test"]["as_expected"]
    assert answers["ambiguity_rises_with_scale"] == {
        "answered": False, "why": "no two runs differ in scale alone and share tiles"
    }  # fmt: skip
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"uncertainty.json", "epistemic.png"}


def test_runs_without_report_or_with_a_damaged_one_are_named(tmp_path):
    with pytest.raises(ResultsError, match=r"no summary.json in '.*nothing' .*run calibrate.json"):
        read_run(tmp_path / "nothing")
    folder = write_run(tmp_path / "run", BASE)
    (folder / "uncertainty" / "tiles.csv").write_text("id,group\nx,test\n")
    with pytest.raises(ResultsError, match="is damaged .*has no column 'total_sd'"):
        read_run(folder)
