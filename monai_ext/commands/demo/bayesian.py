"""The demo's page for the Bayesian bundle: samples and uncertainty of test scenes, scores, curves of the latent."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from monai.bundle import ConfigParser

from monai_ext.commands.demo.page import DemoRun, Panel, command_blocks, read_table, read_training, stage_curves
from monai_ext.commands.html import Block, Heading, Link, Picture, Table, Text
from monai_ext.commands.upscaling.image_options import SampleOptions
from monai_ext.commands.upscaling.viewer import viewer_scene, write_viewer
from monai_ext.handlers.training.weights import load_weights
from monai_ext.metrics.conformal import read_calibration
from monai_ext.raster.opening import open_raster
from monai_ext.storage.pictures import save_figure
from monai_ext.upscaling import Layers, Upscaler

__all__ = ["bayesian_blocks", "write_demo_viewer"]

VIEWER = "viewer.html"
VIEWED_SAMPLES = 8

LABELS = {
    "mean_psnr": "PSNR of the mean (dB)",
    "sample_psnr": "PSNR of a sample (dB)",
    "mean_perceptual": "perceptual distance of the mean",
    "sample_perceptual": "perceptual distance of a sample",
    "lr_psnr_worst": "LR-PSNR, worst sample of a tile (dB)",
    "diversity": "NTIRE diversity (%)",
    "coverage": "coverage of nominal 90 % intervals",
    "ause": "AUSE",
    "aleatoric_sd": "aleatoric sd",
    "ambiguity_sd": "ambiguity sd",
    "epistemic_sd": "epistemic sd",
}
PANELS = (
    Panel("val_psnr", "PSNR of the mean (dB)", "#0072B2"),
    Panel("val_energy_db", "energy score of samples (dB)", "#D55E00"),
    Panel("val_sample_share", "distance of samples / their error", "#009E73"),
)


def write_demo_viewer(configs: str | Path, output_dir: str | Path) -> Path:
    """Write `output_dir/viewer.html`, a page of one test scene: its samples, maps of uncertainty and intervals.

    Args:
        configs: folder of the bundle's configs, of which inference.json and demo_inference.json define the network.
        output_dir: holds `training` with weights, calibration and evaluation, and `phantoms`.
    """
    output_dir = Path(output_dir)
    training = output_dir / "training"
    parser = ConfigParser()
    parser.read_config([str(Path(configs) / name) for name in ("inference.json", "demo_inference.json")])
    network = parser.get_parsed_content("network_def")
    load_weights(network, training / "model.pt")
    calibration = read_calibration(training / "calibration.json")
    layers = Layers(
        samples=VIEWED_SAMPLES,
        uncertainty=True,
        bounds=calibration,
        **SampleOptions().arguments(calibration),
    )
    name = read_table(training / "evaluation" / "tiles.csv")[0]["id"]
    with closing(open_raster(output_dir / "phantoms" / "images" / f"{name}.png", bands=None)) as raster:
        high_res = torch.from_numpy(raster.rows(0, raster.info.size[0]).astype(np.float32) / 255)
    low_res = parser.get_parsed_content("degradation")(high_res[None])[0]
    low_res = (low_res.clamp(0, 1) * 255).round() / 255
    upscaler = Upscaler(network, layers, batch_size=1)
    scene = viewer_scene(upscaler, low_res, bands=("red", "green", "blue"), high=255.0, original=high_res)
    return write_viewer(output_dir / VIEWER, scene, title=f"{name}, reduced four times")


def bayesian_blocks(run: DemoRun) -> list[Block]:
    """The page of a demo of a Bayesian super-resolution bundle; a viewer of a test scene is written beside it."""
    settings, epochs, summary = read_training(run.training)
    viewer = write_demo_viewer(run.configs, run.output_dir)
    scores = summary["scores"]
    curves = stage_curves(epochs, PANELS, pretrain_epochs=int(settings["pretrain_epochs"]))
    return [
        Heading("What the demo trained", level=1),
        Text(
            f"Synthetic aerial scenes were drawn, whose fine texture is a matter of chance and hidden from the low "
            f"resolution: {settings['training_tiles']} to train on, {settings['validation_tiles']} to validate on and "
            f"{summary['tiles']} to test on. A network of {settings['parameters']:,} parameters learned what they may "
            f"look like {settings['scale']} times larger, alone for {settings['pretrain_epochs']} epochs, then against "
            f"a discriminator for {settings['adversarial_epochs']}; {run.seconds['training']:.0f} s, start-up "
            "included. "
            f"Every sample reduces to its input: LR-PSNR {scores['lr_psnr_worst']['lowest']:.1f} dB or more, after "
            "rounding to 8 bits. Synthetic scenes are not places: scores on photographs are in the bundle's "
            "docs/README.md."
        ),
        Table(
            f"Over {summary['tiles']} test scenes, {summary['draws']['samples']} samples of each",
            ["Score", "mean", "median", "lowest", "highest"],
            [
                [label, *(f"{scores[key][name]:.4g}" for name in ("mean", "median", "lowest", "highest"))]
                for key, label in LABELS.items()
                if key in scores
            ],
        ),
        Heading("Test scenes"),
        Picture(
            run.training / "evaluation" / "samples.png",
            "Low resolution (its pixels repeated), mean of the samples, two samples, the three kinds of uncertainty as "
            "standard deviations, original.",
        ),
        Link("Samples behind a slider, and the interval of any pixel, of the first test scene", viewer.name),
        Heading("Training"),
        Picture(
            save_figure(curves, run.output_dir / "curves.png"),
            "Scores on validation scenes (averaged weights), per epoch; at the line the adversarial stage begins. The "
            "distance between samples is that of samples like originals where its share is 1.",
        ),
        *_calibration_blocks(run.training / "uncertainty"),
        *command_blocks(run, results=f"Upscaled scenes: {run.output_dir / 'inference'}"),
    ]


def _calibration_blocks(report: Path) -> list[Block]:
    """The figures of a calibration, where one was run."""
    if not (report / "summary.json").is_file():
        return []
    return [
        Heading("Calibration"),
        Picture(
            report / "reliability.png",
            "Share of values found inside intervals of each nominal share, before calibration by kind of uncertainty, "
            "and after it (star).",
        ),
        Picture(
            report / "sparsification.png",
            "Error of what is left when the values predicted to be most uncertain are removed; the oracle orders them "
            "by their error.",
        ),
    ]
