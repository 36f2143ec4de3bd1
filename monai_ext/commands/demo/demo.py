"""`demo`: training, evaluation and inference of a bundle on phantoms, and a page of the results."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from monai.bundle import ConfigParser

from monai_ext.commands.demo.aerial import aerial_blocks, is_aerial_run
from monai_ext.commands.demo.bayesian import bayesian_blocks, is_bayesian_run, write_demo_viewer
from monai_ext.commands.demo.page import command_blocks, read_table, read_training
from monai_ext.commands.comparison.figures import CaseRow, case_figure, curve_figure, loss_colours, save_figure
from monai_ext.commands.html import Block, Heading, Picture, Table, Text, html_page
from monai_ext.commands.demo.raters import is_rater_run, rater_blocks
from monai_ext.storage.files import read_json, write_text
from monai_ext.metrics import SEGMENTATION_SCORES
from monai_ext.runtime.run_log import tell

__all__ = ["DemoOptions", "demo", "run"]

SHOWN_CASES = 5
SPREAD = {"median": 0.5, "10th percentile": 0.1, "90th percentile": 0.9}


@dataclass(frozen=True)
class DemoOptions:
    """Train, evaluate and apply a bundle on phantoms drawn on the fly, and write a page of the results.

    Each step is an ordinary bundle run, printed as it is started, so that it can be typed with other data.
    """

    bundle: Path = Path("bundles/lesion_unet")
    """the bundle's folder"""
    output_dir: Path = Path("demo/lesion_unet")
    """phantoms, run and page"""


class DemoError(ValueError):
    """A step of the demo failed; its own message stands above."""


def demo(bundle: str | Path, output_dir: str | Path) -> Path:
    """Run the demo of `bundle` into `output_dir` and return its page, `output_dir/index.html`.

    A demo that was interrupted goes on where it stopped; a finished one is only shown anew.

    Raises:
        FileNotFoundError: the bundle has no configs/demo.json.
        DemoError: a step failed.
    """
    bundle, output_dir = Path(bundle), Path(output_dir)
    configs = bundle / "configs"
    if not (configs / "demo.json").is_file():
        raise FileNotFoundError(f"no configs/demo.json in the bundle '{bundle}': give --bundle a bundle's folder.")
    phantoms, training, inference = output_dir / "phantoms", output_dir / "training", output_dir / "inference"
    shared = {"bundle_root": bundle, "dataset_dir": phantoms, "output_dir": training}
    steps = {
        "training": _command(configs, ["train.json", "demo.json"], {**shared, "resume": "true"}),
        "evaluation": _command(configs, ["train.json", "demo.json", "evaluate.json"], shared),
        "inference": _command(
            configs,
            ["inference.json", "demo_inference.json"],
            {
                "bundle_root": bundle,
                "dataset_dir": _pictures_of(configs, phantoms),
                "output_dir": inference,
                "ckpt_path": training / "model.pt",
            },
        ),
    }
    if (configs / "calibrate.json").is_file():
        steps["calibration"] = _command(configs, ["train.json", "demo.json", "calibrate.json"], shared)
    seconds = {name: _timed(name, command) for name, command in steps.items()}
    commands = {name: _typed(command) for name, command in steps.items()}
    if is_aerial_run(training):
        blocks = aerial_blocks(output_dir, commands, seconds)
    elif is_bayesian_run(training):
        write_demo_viewer(configs, output_dir)
        blocks = bayesian_blocks(output_dir, commands, seconds)
    elif is_rater_run(training):
        blocks = rater_blocks(output_dir, commands, seconds)
    else:
        blocks = _blocks(output_dir, commands, seconds)
    page = output_dir / "index.html"
    write_text(page, html_page(blocks, title=f"Demo of {bundle.name}"))
    return page


def _pictures_of(configs: Path, phantoms: Path) -> str:
    """The folder that inference reads, as demo.json names it by `phantom_images`."""
    parser = ConfigParser(read_json(configs / "demo.json", expected=dict, way_out="take it from the bundle again"))
    parser["dataset_dir"] = str(phantoms)
    return parser.get_parsed_content("phantom_images")


def _command(configs: Path, files: Sequence[str], choices: Mapping[str, object]) -> list[str]:
    paths = [str(configs / name) for name in files if (configs / name).is_file()]
    options = [part for key, value in choices.items() for part in (f"--{key}", str(value))]
    return [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(paths), *options]


def _timed(name: str, command: Sequence[str]) -> float:
    tell(f"\n== {name}: {_typed(command)}")
    start = time.perf_counter()
    if subprocess.run(command, check=False).returncode:
        raise DemoError(f"the demo's {name} failed: its message stands above, its command is\n  {_typed(command)}")
    return time.perf_counter() - start


def _typed(command: Sequence[str]) -> str:
    return " ".join(["python", *map(shlex.quote, command[1:])])


def _blocks(output_dir: Path, commands: Mapping[str, str], seconds: Mapping[str, float]) -> list[Block]:
    training = output_dir / "training"
    settings, epochs, _ = read_training(training)
    cases = read_table(training / "evaluation" / "cases.csv")
    dice = np.array([float(case["dice"]) for case in cases])
    names = {"demo": "Demo"}
    colours = loss_colours(list(names))
    curves = {
        key: np.array([[float(row.get(key) or "nan") for row in epochs]]) for key in ("train_loss", "val_mean_dice")
    }
    return [
        Heading("What the demo trained", level=1),
        Text(
            f"Phantoms of dermoscopy images were drawn, {settings['training_images']} to train on and "
            f"{settings['validation_images']} to validate on; the network started from random weights and was trained "
            f"for {settings['max_epochs']} epochs in {seconds['training']:.0f} s, start-up included. On the "
            f"validation phantoms it reaches a mean Dice of {100 * dice.mean():.1f} %. Phantoms are not patients: the "
            "scores on real images are in the bundle's docs/README.md."
        ),
        _score_table(cases),
        Heading("Cases, from worst to best"),
        Picture(
            save_figure(case_figure(_spread(cases, output_dir), names, colours), output_dir / "cases.png"),
            "Image, truth, binary prediction (truth outlined in blue), probability of lesion.",
        ),
        Heading("Training"),
        Picture(
            save_figure(curve_figure({"demo": curves}, names, colours), output_dir / "curves.png"),
            "Training loss and Dice on the validation phantoms (averaged weights), per epoch.",
        ),
        *command_blocks(
            commands,
            seconds,
            results=f"Masks and probability maps of all phantoms: {output_dir / 'inference'}",
            training=training,
        ),
    ]


def _score_table(cases: Sequence[Mapping[str, str]]) -> Table:
    rows = []
    for name in SEGMENTATION_SCORES:
        values = 100 * np.array([float(case[name]) for case in cases])
        spread = [f"{np.quantile(values, share):.1f}" for share in SPREAD.values()]
        rows.append([name.replace("_", " "), f"{values.mean():.1f}", *spread])
    return Table(f"Scores on {len(cases)} validation phantoms (%)", ["Score", "mean", *SPREAD], rows)


def _spread(cases: Sequence[Mapping[str, str]], output_dir: Path) -> list[CaseRow]:
    """Cases at equal steps from the worst to the best Dice."""
    ordered = sorted(cases, key=lambda case: float(case["dice"]))
    chosen = np.linspace(0, len(ordered) - 1, min(SHOWN_CASES, len(ordered))).round().astype(int)
    folder = output_dir / "training" / "evaluation" / "probabilities"
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


def run(options: DemoOptions) -> int:
    """`python -m monai_ext demo`."""
    page = demo(options.bundle, options.output_dir)
    tell(f"\nthe demo's page: {page.resolve()}")
    return 0
