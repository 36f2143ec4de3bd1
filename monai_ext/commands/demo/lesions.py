"""The demo's page for the bundle of skin lesions: scores, cases from worst to best, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from monai_ext.commands.comparison.figures import CaseRow, case_figure, curve_figure
from monai_ext.commands.demo.page import DemoRun, command_blocks, read_table, read_training
from monai_ext.commands.html import Block, Heading, Picture, Table, Text
from monai_ext.commands.plotting import colours_of
from monai_ext.metrics import SEGMENTATION_SCORES
from monai_ext.storage.pictures import save_figure

__all__ = ["lesion_blocks"]

SHOWN_CASES = 5
SPREAD = {"median": 0.5, "10th percentile": 0.1, "90th percentile": 0.9}


def lesion_blocks(run: DemoRun) -> list[Block]:
    """The page of a demo of a bundle for lesions."""
    settings, epochs, _ = read_training(run.training)
    cases = read_table(run.training / "evaluation" / "cases.csv")
    dice = np.array([float(case["dice"]) for case in cases])
    names = {"demo": "Demo"}
    colours = colours_of(names)
    curves = {
        key: np.array([[float(row.get(key) or "nan") for row in epochs]]) for key in ("train_loss", "val_mean_dice")
    }
    return [
        Heading("What the demo trained", level=1),
        Text(
            f"Phantoms of dermoscopy images were drawn, {settings['training_images']} to train on and "
            f"{settings['validation_images']} to validate on; the network started from random weights and was trained "
            f"for {settings['max_epochs']} epochs in {run.seconds['training']:.0f} s, start-up included. On the "
            f"validation phantoms it reaches a mean Dice of {100 * dice.mean():.1f} %. Phantoms are not patients: the "
            "scores on real images are in the bundle's docs/README.md."
        ),
        _score_table(cases),
        Heading("Cases, from worst to best"),
        Picture(
            save_figure(case_figure(_spread(cases, run.training), names, colours), run.output_dir / "cases.png"),
            "Image, target, binary prediction (target outlined in blue), probability of lesion.",
        ),
        Heading("Training"),
        Picture(
            save_figure(curve_figure({"demo": curves}, names, colours), run.output_dir / "curves.png"),
            "Training loss and Dice on the validation phantoms (averaged weights), per epoch.",
        ),
        *command_blocks(run, results=f"Masks and probability maps of all phantoms: {run.output_dir / 'inference'}"),
    ]


def _score_table(cases: Sequence[Mapping[str, str]]) -> Table:
    rows = []
    for name in SEGMENTATION_SCORES:
        values = 100 * np.array([float(case[name]) for case in cases])
        spread = [f"{np.quantile(values, share):.1f}" for share in SPREAD.values()]
        rows.append([name.replace("_", " "), f"{values.mean():.1f}", *spread])
    return Table(f"Scores on {len(cases)} validation phantoms (%)", ["Score", "mean", *SPREAD], rows)


def _spread(cases: Sequence[Mapping[str, str]], training: Path) -> list[CaseRow]:
    """Cases at equal steps from the worst to the best Dice."""
    ordered = sorted(cases, key=lambda case: float(case["dice"]))
    chosen = np.linspace(0, len(ordered) - 1, min(SHOWN_CASES, len(ordered))).round().astype(int)
    folder = training / "evaluation" / "probabilities"
    return [
        CaseRow(
            title=case["id"],
            image=Path(case["image_path"]),
            label=Path(case["label_path"]),
            probabilities={"demo": folder / f"{case['id']}.png"},
            dice={"demo": float(case["dice"])},
        )
        for case in (ordered[index] for index in chosen)
    ]
