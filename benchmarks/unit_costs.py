"""Costs of one run, one report and one tile: the measured numbers of docs/scaling.md.

python -m benchmarks.unit_costs
python -m benchmarks.unit_costs --runs 1000 --tiles 64 --only report,tile
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.measure import timed
from monai_ext.__main__ import main as command
from monai_ext.commands.comparison.compare import LOSSES
from monai_ext.commands.comparison.report import report
from monai_ext.data import DeviceDataset, DeviceLoader
from monai_ext.data.tiles.images import DecodeTiled
from monai_ext.data.tiles.listing import tile_items
from monai_ext.metrics import SEGMENTATION_SCORES
from monai_ext.phantoms.aerial import write_aerial_phantoms
from monai_ext.phantoms.lesions import write_lesion_phantoms

CPU = torch.device("cpu")
BUNDLES = Path(__file__).parents[1] / "bundles"
FOLDS, CASES = 5, 400  # of a fold: ISIC 2017
MIB = 2**20


def run_costs(folder: Path) -> dict[str, str]:
    """A training of lesion_unet and its evaluation that do next to nothing, in processes of their own."""
    write_lesion_phantoms(folder / "data", count=22, size=(96, 128))
    train, evaluate = (str(BUNDLES / "lesion_unet" / "configs" / f"{name}.json") for name in ("train", "evaluate"))
    words = {"bundle_root": BUNDLES / "lesion_unet", "dataset_dir": folder / "data", "output_dir": folder / "run"}
    words |= {"batch_size": 4, "max_epochs": 1}
    common = [part for key, value in words.items() for part in (f"--{key}", str(value))]

    def run(configs: object, *options: str) -> None:
        start = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "--config_file", str(configs)]
        subprocess.run([*start, *common, *options], check=True, capture_output=True)

    five_sizes = ("--scales", "[0.75, 0.875, 1, 1.125, 1.25]")
    costs = [timed(lambda: run(train), CPU), timed(lambda: run([train, evaluate], *five_sizes), CPU)]
    size = sum(path.stat().st_size for path in (folder / "run").rglob("*") if path.is_file())
    return {
        "start of a training, one epoch of 16 images": f"{costs[0].cpu:.1f} CPU s",
        "evaluation of 6 images, five sizes": f"{costs[1].cpu:.1f} CPU s",
        "folder of a run": f"{size / MIB:.0f} MiB",
    }


def report_costs(folder: Path, runs: int) -> dict[str, str]:
    """The report of a comparison of five losses, five folds and as many seeds as it takes."""
    draw = random.Random(0)
    seeds = max(1, runs // (len(LOSSES) * FOLDS))
    head = ",".join(["id", *SEGMENTATION_SCORES])
    for loss in LOSSES:
        for fold in range(FOLDS):
            for seed in range(seeds):
                place = folder / "comparison" / loss / f"fold{fold}_seed{seed}"
                (place / "evaluation").mkdir(parents=True)
                scores = [[f"{draw.random():.6f}" for _ in SEGMENTATION_SCORES] for _ in range(CASES)]
                lines = [f"case{fold}_{i}," + ",".join(row) for i, row in enumerate(scores)]
                (place / "evaluation" / "cases.csv").write_text("\n".join([head, *lines]) + "\n")
                record = {"loss": loss, "fold": fold, "seed": seed, "seconds": 1.0}
                (place / "finished.json").write_text(json.dumps(record))
    cost = timed(lambda: report(folder / "comparison"), CPU)
    count = len(LOSSES) * FOLDS * seeds
    return {f"report of {count} runs of {CASES} cases": f"{cost.cpu:.0f} CPU s"}


def tile_costs(folder: Path, tiles: int) -> dict[str, str]:
    """Tiles of 256 x 256 decoded, held, taken as batches, and upscaled four times by the shipped generator."""
    write_aerial_phantoms(folder / "tiles", count=tiles, size=(256, 256))
    items = tile_items(folder / "tiles")
    held: list[DeviceDataset] = []
    settings = {"num_workers": 1, "progress": False}
    decoded = timed(lambda: held.append(DeviceDataset(items, DecodeTiled([1, 2, 3]), **settings)), CPU)
    loader = DeviceLoader(held[0], 16, shuffle=True)
    rounds = 20
    picked = timed(lambda: [batch for _ in range(rounds) for batch in loader], CPU)
    few = max(1, tiles // 8)
    for item in items[few:]:
        Path(item["image"]).unlink()

    def upscale(output: str) -> None:
        command(["upscale", str(folder / "tiles"), str(folder / output), "--bundle", str(BUNDLES / "srgan_aerial")])

    upscale("first")  # imports, and the first allocations
    again = timed(lambda: upscale("second"), CPU)
    on_disk = sum(path.stat().st_size for path in (folder / "tiles").iterdir()) / few
    return {
        "decoding a tile": f"{1000 * decoded.cpu / tiles:.1f} CPU ms",
        "a tile held on the device": f"{held[0].nbytes / tiles / 1000:.0f} kB",
        "a tile picked into a batch": f"{1000 * picked.cpu / tiles / rounds:.3f} CPU ms",
        "enlarging a tile to 1024 x 1024": f"{again.cpu / few:.2f} CPU s",
        "a synthetic tile as PNG": f"{on_disk / 1000:.0f} kB",
    }


def ray_costs(folder: Path, runs: int = 20) -> dict[str, str]:
    """Runs that do nothing, as tasks of a local Ray."""
    from monai_ext.commands.comparison.ray_backend import RayBackend, RayOptions
    from monai_ext.commands.comparison.runs import Run

    nothing = ((sys.executable, "-S", "-c", "pass"),)
    made = [Run("none", 0, seed, nothing, folder / f"fold0_seed{seed}") for seed in range(runs + 1)]
    for run in made:
        run.folder.mkdir(parents=True)
    backend = RayBackend(RayOptions(address="local", gpus_per_run=0.0), jobs=1)
    outcomes = backend(made)
    next(outcomes)  # Ray and its first worker start
    cost = timed(lambda: list(outcomes), CPU)
    return {"a run handed to a Ray worker": f"{1000 * cost.wall / runs:.0f} ms on the clock"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="of the report (1000)")
    parser.add_argument("--tiles", type=int, default=64, help="that are decoded; an eighth is upscaled (64)")
    parser.add_argument("--only", default="run,report,tile", help="of run, report, tile, ray (the first three)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    questions = {
        "run": run_costs,
        "report": lambda folder: report_costs(folder, args.runs),
        "tile": lambda folder: tile_costs(folder, args.tiles),
        "ray": ray_costs,
    }
    for name in args.only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            for what, value in questions[name](Path(folder)).items():
                print(f"{what}: {value}", flush=True)


if __name__ == "__main__":
    main()
