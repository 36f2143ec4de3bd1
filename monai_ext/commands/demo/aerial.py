"""The demo's page for the bundle of aerial tiles: scores beside interpolation, triplets, curves of both stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from monai_ext.commands.demo.page import DemoRun, Panel, command_blocks, read_training, stage_curves
from monai_ext.commands.html import Block, Heading, Picture, Table, Text
from monai_ext.storage.pictures import save_figure

__all__ = ["aerial_blocks"]

LABELS = {
    "psnr": "PSNR, RGB (dB)",
    "ssim": "SSIM, RGB",
    "psnr_luma": "PSNR, luma (dB)",
    "ssim_luma": "SSIM, luma",
    "lr_psnr": "LR-PSNR (dB)",
    "perceptual": "perceptual distance",
}
PANELS = (
    Panel("train_loss", "generator's loss", "#0072B2"),
    Panel("val_psnr", "validation PSNR (dB)", "#D55E00"),
)


def aerial_blocks(run: DemoRun) -> list[Block]:
    """The page of a demo of a deterministic super-resolution bundle."""
    settings, epochs, summary = read_training(run.training)
    gain = summary["gain_over_bicubic"]["psnr"]
    return [
        Heading("What the demo trained", level=1),
        Text(
            f"Synthetic aerial scenes were drawn, {settings['training_tiles']} to train on, "
            f"{settings['validation_tiles']} to validate on and {summary['tiles']} to test on. A generator of "
            f"{settings['parameters']:,} parameters learned to upscale them {settings['scale']} times, alone for "
            f"{settings['pretrain_epochs']} epochs, then against a discriminator for {settings['adversarial_epochs']}; "
            f"{run.seconds['training']:.0f} s, start-up included. On test scenes its PSNR is {gain['mean']:+.2f} dB "
            f"against bicubic interpolation, better on {gain['better']:.0%} of them. Synthetic scenes are not "
            "places: scores on photographs are in the bundle's docs/README.md."
        ),
        _score_table(summary),
        Heading("Test scenes"),
        Picture(
            run.training / "evaluation" / "triplets.png",
            "Low resolution (its pixels repeated), bicubic interpolation, prediction, original.",
        ),
        Heading("Training"),
        Picture(
            save_figure(_curves(epochs, int(settings["pretrain_epochs"])), run.output_dir / "curves.png"),
            "The generator's loss and the PSNR on validation scenes (averaged weights), per epoch. At the line the "
            "adversarial stage begins, whose loss has other terms and another scale.",
        ),
        *command_blocks(run, results=f"Upscaled scenes: {run.output_dir / 'inference'}"),
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
    figure = stage_curves(epochs, PANELS, pretrain_epochs=pretrain_epochs)
    if min(float(row["train_loss"]) for row in epochs) > 0:
        figure.axes[0].set_yscale("log")
    return figure
