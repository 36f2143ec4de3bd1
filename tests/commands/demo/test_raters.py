"""The demo's page for several raters, from files of a run that are made up."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from viewer_pages import data_of

from monai_ext.commands.demo.page import DemoRun
from monai_ext.commands.demo.raters import NUMBERS, SHARES, rater_blocks, rater_conclusions
from monai_ext.commands.html import Link, Picture, Table, Text
from monai_ext.data import RaterWriter, qubiq_items, read_nifti, write_rater_phantoms

NAMES = {1: "over-drawing", 2: "under-drawing", 3: "smoothing", 4: "shifted", 5: "ragged"}
TABLE = [[0.9 if head == rater else 0.5 + 0.01 * rater for rater in range(5)] for head in range(5)]


def summary(table=TABLE) -> dict:
    spread = {"mean": 0.625, "sd": 0.1, "cases": 3}
    names = [*SHARES, *NUMBERS, "rater_agreement", "leave_one_out_dice"]
    return {
        "settings": {"method": "holistic"}, "cases": 3, "samples": 16, "raters": [1, 2, 3, 4, 5], "parameters": 1234,
        "scores": dict.fromkeys(names, spread), "heads_by_raters": table,
        "rater_ceiling": dict.fromkeys(("rater_agreement", "leave_one_out_dice"), spread),
    }  # fmt: skip


def write_table(path: Path, table: list[dict]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


@pytest.fixture
def demo(tmp_path):
    """The folder of a demo whose heads draw exactly as their raters do."""
    return finished_demo(tmp_path, (32, 32))


def finished_demo(tmp_path: Path, size: tuple[int, ...]) -> Path:
    write_rater_phantoms(tmp_path / "phantoms", count=3, size=size)
    evaluation = tmp_path / "training" / "evaluation"
    writer = RaterWriter(evaluation / "predictions")
    for item in qubiq_items(tmp_path / "phantoms"):
        masks = torch.stack([torch.from_numpy(read_nifti(path)) for path in item["label"]])
        writer.write_masks(item, masks)
        writer.write_probability(item, masks.float().mean(0, keepdim=True))
    write_table(evaluation / "cases.csv", [{"id": f"case0{i}", "dice": 0.5 + 0.1 * i} for i in (1, 2, 3)])
    (evaluation / "summary.json").write_text(json.dumps(summary()))
    settings = {"method": "holistic", "training_cases": 8, "validation_cases": 3, "max_epochs": 2}
    (tmp_path / "training" / "run.json").write_text(json.dumps({"settings": settings}))
    curves = {f"val_dice_rater0{r}": 0.5 for r in range(1, 6)} | {"val_qubiq_score": 0.5}
    empty = dict.fromkeys(curves, "")
    write_table(
        tmp_path / "training" / "epochs.csv",
        [{"epoch": 1, "train_loss": 2, **empty}, {"epoch": 2, "train_loss": 1, **curves}],
    )
    return tmp_path


STEPS = dict.fromkeys(("training", "evaluation", "inference"), "python -m ...")
SECONDS = dict.fromkeys(STEPS, 1.0)


def test_the_page_has_scores_heads_by_raters_cases_curves_and_commands(demo, capsys):
    blocks = rater_blocks(DemoRun(demo, demo, STEPS, SECONDS))
    pictures = [block.path.name for block in blocks if isinstance(block, Picture)]
    assert pictures == ["heads.png", "cases.png", "curves.png"]
    assert all((demo / name).stat().st_size > 5000 for name in pictures)
    (link,) = (block for block in blocks if isinstance(block, Link))
    shown = data_of((demo / link.file).read_text(encoding="utf-8"))
    assert [case["sets"] for case in shown["cases"]] == [[f"head {number}" for number in NAMES]] * 3
    table = next(block for block in blocks if isinstance(block, Table))
    assert ["QUBIQ score (%)", "62.5", "10.0"] in table.rows and [
        "Diversity of the samples",
        "0.625",
        "0.100",
    ] in table.rows
    said = " ".join(line for block in blocks if isinstance(block, Text) for line in block.lines)
    assert "5 of 5 heads are closest to their own rater" in said and "smoothing" in said
    assert "5 of 5 heads" in capsys.readouterr().err


def test_of_volumes_one_slice_is_outlined_and_all_are_plotted(tmp_path):
    folder = finished_demo(tmp_path, (32, 32, 5))
    blocks = rater_blocks(DemoRun(folder, folder, STEPS, SECONDS))
    pictures = [block.path.name for block in blocks if isinstance(block, Picture)]
    assert pictures == ["heads.png", "cases.png", "slices.png", "curves.png"]


def test_samples_are_shown_where_there_are_no_heads(demo):
    for item in qubiq_items(demo / "phantoms"):
        folder = demo / "training" / "evaluation" / "predictions" / item["case"]
        for path in folder.glob("task01_seg*"):
            path.rename(folder / path.name.replace("seg", "sample"))
    (demo / "training" / "evaluation" / "summary.json").write_text(json.dumps(summary(table=None)))
    pictures = [
        block.path.name for block in rater_blocks(DemoRun(demo, demo, STEPS, SECONDS)) if isinstance(block, Picture)
    ]
    assert pictures == ["cases.png", "curves.png"]


def test_conclusions_count_the_heads_that_are_closest_to_their_own_rater():
    table = [list(values) for values in TABLE]
    table[1][3] = 0.95  # head 2 draws like rater 4
    table[2][2] = None  # rater 3 was never there
    lines = rater_conclusions(summary(table), NAMES)
    assert lines[0].startswith("3 of 5 heads are closest to their own rater, 3 of 5 raters are met best")
    assert "95.0" in lines[3] and "under-drawing" in lines[3] and "nan" in lines[4]
    assert "0.62" in lines[-2] and "62.5 %" in lines[-1] and "16 samples" in lines[-1]
