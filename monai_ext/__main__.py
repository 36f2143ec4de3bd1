"""The commands that are not a bundle run: `python -m monai_ext demo | compare | report | score | ...`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from monai_ext import __version__
from monai_ext.runtime.errors import report_errors_in_one_sentence


class Command(NamedTuple):
    """A module of `monai_ext.commands` with `add_arguments` and `run`, imported only when it is asked for."""

    module: str
    summary: str
    examples: str
    further: bool = False  # whether `run` takes the options that it does not know itself
    log: str | None = None  # the option that names the folder in which a log is kept, of commands that take long


COMMANDS = {
    "demo": Command(
        "demo.demo",
        "train, evaluate and apply a bundle on phantoms, and write a page of what came out",
        "demo --bundle bundles/lesion_unet --output_dir demo/lesion_unet",
        log="output_dir",
    ),
    "compare": Command(
        "comparison.compare",
        "compare losses over folds and seeds, one bundle run each; resumable",
        "compare --bundle bundles/lesion_unet --dataset_dir ISIC2017 --output_dir runs/comparison \\\n"
        "      --losses bce,dice,tversky,jaccard,dice_bce --folds 5 --seeds 0 --encoder_weights imagenet\n"
        "compare --bundle bundles/lesion_unet --dataset_dir ISIC2017 --output_dir runs/comparison \\\n"
        "      --backend ray --gpus_per_run 0.5",
        further=True,
        log="output_dir",
    ),
    "report": Command("comparison.report", "tables, tests and figures of a comparison", "report runs/comparison"),
    "reproduce": Command(
        "bundles.reproduce",
        "repeat a training from its run.json into a new folder, and say what differs",
        "reproduce runs/lesion --output_dir runs/lesion_again\nreproduce runs/lesion --dry_run",
    ),
    "fetch-tiles": Command(
        "datasets.fetch_tiles",
        "map tiles of a box of longitude and latitude, from any tile server; resumable",
        "fetch-tiles --bbox -76.62 39.28 -76.58 39.30 --zoom 16 --output tiles/baltimore",
        log="output",
    ),
    "many-hr": Command(
        "datasets.many_hr",
        "build, check and show a data set of low-resolution images with many high-resolution answers each; resumable",
        "many-hr build --tiles tiles/baltimore --output many_hr --records 1000 --hr 8\nmany-hr check many_hr",
    ),
    "upscale": Command(
        "upscaling.upscale",
        "enlarge pictures and GeoTIFFs of any size without seams, georeference kept; resumable",
        "upscale orthophoto.tif orthophoto_x4.tif --bundle bundles/srgan_aerial --resume\n"
        "upscale orthophoto.tif layers.tif --bundle bundles/bayesian_srgan_aerial --samples 4 --bounds --uncertainty",
    ),
    "viewer": Command(
        "upscaling.viewer",
        "a page of samples, maps of uncertainty and the interval of a clicked pixel, for a part of an image",
        "viewer tile.png tile.html --bundle bundles/bayesian_srgan_aerial --samples 8",
    ),
    "score": Command(
        "scoring.score",
        "score predictions against several annotators, with the human ceiling beside them",
        "score --predictions predicted --truth QUBIQ --region kidney --part Validation\n"
        "score --predictions predicted --truth cells --samples 16 --missing zero --output_dir scores\n"
        'score --predictions predicted --truth lidc-nodule --anonymous --group "patient\\d+" --workers 2',
    ),
    "rater-table": Command(
        "scoring.rater_table",
        "one table of methods for several annotators, from the evaluations of their runs",
        "rater-table runs/cells --output_dir runs/cells/table\n"
        "rater-table runs/holistic runs/combined --human scores/scores.json --output_dir table",
    ),
    "uncertainty-report": Command(
        "uncertainty.report",
        "does each kind of uncertainty do its job: a figure for each, from calibrated runs",
        "uncertainty-report runs/bayesian runs/bayesian_noisy --output runs/kinds",
    ),
    "uncertainty-checks": Command(
        "uncertainty.checks",
        "does each kind of uncertainty do its job: small networks trained on drawn scenes, a figure for each question",
        "uncertainty-checks --output runs/checks",
        log="output",
    ),
    "pack": Command(
        "bundles.pack",
        "pack bundles into zips with card, licence and weights, the same bytes each time",
        "pack bundles/lesion_unet bundles/srgan_aerial --output dist\n"
        "pack bundles/lesion_unet --output dist --url https://example.org/weights",
    ),
    "inspect": Command(
        "bundles.inspection",
        "show what a bundle would execute, without executing it",
        "inspect downloaded_bundle.zip\ninspect bundles/lesion_unet --strict",
    ),
}
ENDING = (
    "Training, evaluation and inference are bundle runs: python -m monai.bundle run --config_file BUNDLE/configs/..."
)


def examples(name: str) -> str:
    """The examples of a command as they are typed, one or more lines."""
    return "".join(
        f"  {line}\n" if line.startswith("   ") else f"  python -m monai_ext {line}\n"
        for line in COMMANDS[name].examples.splitlines()
    )


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    every = "".join(map(examples, COMMANDS))
    parser = argparse.ArgumentParser(
        prog="python -m monai_ext",
        epilog=f"examples:\n{every}\n{ENDING}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"monai_ext {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    module = None
    for name, command in COMMANDS.items():
        ours = commands.add_parser(name, help=command.summary)
        if name in arguments[:1]:
            module = importlib.import_module(f"monai_ext.commands.{command.module}")
            ours.description, ours.epilog = module.__doc__, f"examples:\n{examples(name)}"
            ours.formatter_class = argparse.RawDescriptionHelpFormatter
            module.add_arguments(ours)
    known, further = parser.parse_known_args(arguments)
    if further and not COMMANDS[known.command].further:
        parser.error(f"unknown arguments: {' '.join(further)}")
    command = COMMANDS[known.command]
    keeps_log = command.log and not getattr(known, "dry_run", False)
    report_errors_in_one_sentence(log_dir=getattr(known, command.log) if keeps_log else None)
    return module.run(known, further) if command.further else module.run(known)


if __name__ == "__main__":
    sys.exit(main())
