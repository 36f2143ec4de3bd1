"""The commands that are not a bundle run: `python -m monai_ext demo | compare | report | score | ...`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from monai_ext import __version__
from monai_ext.errors import report_errors_in_one_sentence
from monai_ext.experiments import compare, demo, fetch_tiles, report, score, upscale

EPILOGUE = """examples:
  python -m monai_ext demo --bundle bundles/lesion_unet --output_dir demo/lesion_unet
  python -m monai_ext compare --bundle bundles/lesion_unet --dataset_dir ISIC2017 --output_dir runs/comparison \\
      --losses bce,dice,tversky,jaccard,dice_bce --folds 5 --seeds 0 --encoder_weights imagenet
  python -m monai_ext report runs/comparison
  python -m monai_ext fetch-tiles --bbox -76.62 39.28 -76.58 39.30 --zoom 16 --output tiles/baltimore
  python -m monai_ext upscale orthophoto.tif orthophoto_x4.tif --bundle bundles/srgan_aerial --resume
  python -m monai_ext score --predictions predicted --truth QUBIQ --region kidney --part Validation

Training, evaluation and inference are bundle runs: python -m monai.bundle run --config_file BUNDLE/configs/train.json
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m monai_ext", epilog=EPILOGUE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"monai_ext {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module, summary in (
        ("demo", demo, "train, evaluate and apply a bundle on phantoms, and write a page of what came out"),
        ("compare", compare, "compare losses over folds and seeds, one bundle run each; resumable"),
        ("report", report, "tables, tests and figures of a comparison"),
        ("fetch-tiles", fetch_tiles, "map tiles of a box of longitude and latitude, from any tile server; resumable"),
        ("score", score, "score predictions against several annotators, with the human ceiling beside them"),
        ("upscale", upscale, "enlarge pictures and GeoTIFFs of any size without seams, georeference kept; resumable"),
    ):
        module.add_arguments(commands.add_parser(name, help=summary, description=module.__doc__))
    known, further = parser.parse_known_args(arguments)
    if further and known.command != "compare":
        parser.error(f"unknown arguments: {' '.join(further)}")
    report_errors_in_one_sentence()
    if known.command == "compare":
        return compare.run(known, further)
    modules = {"demo": demo, "report": report, "score": score, "fetch-tiles": fetch_tiles, "upscale": upscale}
    return modules[known.command].run(known)


if __name__ == "__main__":
    sys.exit(main())
