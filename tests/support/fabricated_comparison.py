"""Fabricated runs of a comparison whose winner is known."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

from monai_ext.commands.comparison.results import METRICS

CASES = 40
MAPS = ("case00", "case07", "case12", "case13", "case21", "case38")


def dice_of(loss: str, case: int, seed: int = 0) -> float:
    """Known results: `dice` is 2 points above `bce` in every case, `jaccard` is `bce` with its sign at random."""
    base = 0.70 + 0.006 * case
    noise = 0.01 * (1 if (7 * case + seed) % 4 < 2 else -1)
    return round(base + {"bce": 0.0, "dice": 0.02 + 0.0001 * case, "jaccard": noise}[loss], 6)


def write_run(folder: Path, loss: str, fold: int, seed: int = 0, *, folds: int = 2, **columns: object) -> Path:
    """A finished run as the bundle leaves it; `columns` are further ones of cases.csv, as functions of the case."""
    run = folder / loss / f"fold{fold}_seed{seed}"
    (run / "evaluation" / "probabilities").mkdir(parents=True)
    rows = []
    for case in range(fold, CASES, folds):
        dice = dice_of(loss, case, seed)
        jaccard = dice / (2 - dice)
        values = (dice, jaccard, dice, dice, 0.99, jaccard if jaccard >= 0.65 else 0, 0.9 * dice)
        name = f"case{case:02d}"
        rows.append({"id": name, **dict(zip(METRICS, values, strict=True))} | {k: f(case) for k, f in columns.items()})
        if name in MAPS:
            level = 200 if case % 2 else 100
            pixels = np.full((12, 16), 10, np.uint8)
            pixels[3:9, 4:12] = level
            Image.fromarray(pixels).save(run / "evaluation" / "probabilities" / f"{name}.png")
    with (run / "evaluation" / "cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    epochs = [f"{epoch},{1 / epoch},{'' if epoch == 1 else 0.8 + 0.01 * epoch},0.001,60" for epoch in (1, 2, 3)]
    (run / "epochs.csv").write_text("epoch,train_loss,val_mean_dice,lr,seconds\n" + "\n".join(epochs) + "\n")
    record = {"loss": loss, "fold": fold, "seed": seed, "seconds": 5.0, "versions": {"torch": "2.13.0"}}
    (run / "finished.json").write_text(json.dumps(record))
    return run


def write_comparison(tmp_path: Path) -> Path:
    """Three losses, two folds, one seed."""
    Image.fromarray(np.full((12, 16, 3), 150, np.uint8)).save(tmp_path / "image.png")
    truth = np.zeros((12, 16), np.uint8)
    truth[3:9, 4:12] = 255
    Image.fromarray(truth).save(tmp_path / "mask.png")
    paths = {"image_path": lambda _: tmp_path / "image.png", "label_path": lambda _: tmp_path / "mask.png"}
    for loss in ("bce", "dice", "jaccard"):
        for fold in (0, 1):
            write_run(tmp_path / "out", loss, fold, **paths)
    plan = {"losses": ["bce", "dice", "jaccard"], "folds": 2, "seeds": [0], "command": "monai_ext compare <x>"}
    (tmp_path / "out" / "plan.json").write_text(json.dumps(plan))
    return tmp_path / "out"
