"""The demo's page for the bundle of aerial tiles: scores beside interpolation, triplets, curves of both stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from monai_ext.commands.demo.page import command_blocks, read_training
from monai_ext.commands.comparison.figures import save_figure
from monai_ext.commands.html import Block, Heading, Picture, Table, Text

__all__ = ["aerial_blocks", "is_aerial_run"]

LABELS = {
    "psnr": "PSNR, RGB (dB)",
    "ssim": "SSIM, RGB",
    "psnr_luma": "PSNR, luma (dB)",
    "ssim_luma": "SSIM, luma",
    "lr_psnr": "LR-PSNR (dB)",
    "perceptual": "perceptual distance",
}
LOSS_COLOUR, SCORE_COLOUR = "#0072B2", "#D55E00"


def is_aerial_run(training: str | Path) -> bool:
    """Whether the folder holds a run of `srgan_aerial`, evaluated."""
    return (Path(training) / "evaluation" / "triplets.png").is_file()


def aerial_blocks(output_dir: str | Path, commands: Mapping[str, str], seconds: Mapping[str, float]) -> list[Block]:
    """What the runs of a demo of `srgan_aerial` left in `output_dir`, as a page.

    Args:
        output_dir: holds `training` (with `evaluation` in it) and `inference`.
        commands: name -> command of training, evaluation and inference, as it is typed.
        seconds: name -> how long each took.

    Raises:
        FileNotFoundError: a step left nothing.
    """
    output_dir = Path(output_dir)
    training = output_dir / "training"
    settings, epochs, summary = read_training(training)
    gain = summary["gain_over_bicubic"]["psnr"]
    return [
        Heading("What the demo trained", level=1),
        Text(
            f"Synthetic aerial scenes were drawn, {settings['training_tiles']} to train on, "
            f"{settings['validation_tiles']} to validate on and {summary['tiles']} to test on. A generator of "
            f"{settings['parameters']:,} parameters learned to enlarge them {settings['scale']} times, alone for "
            f"{settings['pretrain_epochs']} epochs, then against a discriminator for {settings['adversarial_epochs']}; "
            f"{seconds['training']:.0f} s, start-up included. On test scenes its PSNR is {gain['mean']:+.2f} dB "
            f"against bicubic interpolation, better on {gain['better']:.0%} of them. Scenes that were drawn are not "
            "places: scores on photographs are in the bundle's docs/README.md."
        ),
        _score_table(summary),
        Heading("Test scenes"),
        Picture(
            training / "evaluation" / "triplets.png",
            "Low resolution (its pixels repeated), bicubic interpolation, prediction, original.",
        ),
        Heading("Training"),
        Picture(
            save_figure(_curves(epochs, int(settings["pretrain_epochs"])), output_dir / "curves.png"),
            "The generator's loss and the PSNR on validation scenes (averaged weights), per epoch. At the line the "
            "adversarial stage begins, whose loss has other terms and another scale.",
        ),
        *command_blocks(commands, seconds, results=f"Enlarged scenes: {output_dir / 'inference'}", training=training),
    ]


def _score_table(summary: Mapping) -> Table:
    scores = summary["scores"]
    keys = [key for key in LABELS if key in scores["bicubic"]]
    rows = [
        [method, *(f"{part[key]['mean']:.{2 if 'psnr' in key else 3}f}" for key in keys)]
        for method, part in scores.items()
    ]
    return Table(f"Means over {summary['tiles']} test scenes", ["Method", *(LABELS[key] for key in keys)], rows)


def _curves(epochs: Sequence[Mapping[str, str]], pretrain_epochs: int) -> Figure:
    figure = Figure(figsize=(9, 3.2), layout="constrained", dpi=160)
    panels = (("train_loss", "generator's loss", LOSS_COLOUR), ("val_psnr", "validation PSNR (dB)", SCORE_COLOUR))
    for axis, (key, label, colour) in zip(figure.subplots(1, 2), panels, strict=True):
        known = [(int(row["epoch"]), float(row[key])) for row in epochs if row.get(key)]
        axis.plot(*np.array(known).T, color=colour, marker="." if len(known) < 30 else None)
        axis.axvline(pretrain_epochs + 0.5, color="#777777", linestyle=":", linewidth=1)
        axis.set_xlabel("epoch")
        axis.set_ylabel(label)
        axis.spines[["top", "right"]].set_visible(False)
    if min(float(row["train_loss"]) for row in epochs) > 0:
        figure.axes[0].set_yscale("log")
    return figure
