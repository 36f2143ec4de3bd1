"""Dice of the lesion bundle beside a plain MONAI pipeline: same cases, network, loss, schedule and epochs.

    python -m benchmarks.same_results --dataset_dir DATA --epochs 12 --seeds 0,1

plain    `CacheDataset`, `DataLoader`, MONAI's transforms item by item, `SupervisedTrainer` in float32
same     the same recipe by the bundle: decoded set, augmentation of whole batches, `BatchTrainer`
one_size the bundle: weaker jitter, of contrast, saturation and hue as well, and averaged weights
bundle   the same as it is, with images that grow to that size in the course of the training

Between the first two, differences remain where MONAI has no such thing: gamma is drawn uniformly there, within the
range of the image, and log-uniformly here; the extent of what is shown is uniform there, the zoom log-uniform here;
masks are reduced by nearest neighbour there. All are scored at the end of the training, by MONAI's `DiceMetric`,
against the masks as they are stored: each network sees images as its own pipeline decodes them, and its logits are
resized to the mask's own size, so that none is scored by another's way of reducing masks.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

import torch
from monai.bundle import ConfigWorkflow
from monai.data import CacheDataset, DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler
from monai.losses import DiceCELoss
from monai.metrics import DiceMetric
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    NormalizeIntensityd,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandScaleIntensityd,
    Resized,
    ScaleIntensityRanged,
    ToTensord,
    Transform,
)
from monai.utils import ensure_tuple, set_determinism
from torch import nn
from torch.nn.functional import interpolate

from benchmarks.report import Table
from benchmarks.workbench import KEYS
from monai_ext.data import DecodeImaged, fold_items, lesion_items
from monai_ext.handlers import BatchNormUnfolder, one_cycle
from monai_ext.networks import MobileNetV2UNet
from monai_ext.raster.masks import read_mask
from monai_ext.storage.files import write_text

BUNDLE = Path(__file__).parents[1] / "bundles" / "lesion_unet" / "configs" / "train.json"
PLAIN, SAME, ONE_SIZE, OURS = WAYS = "plain", "same", "one_size", "bundle"


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    config = json.loads(BUNDLE.read_text(encoding="utf-8"))
    items = lesion_items(options.dataset_dir)
    parts = {
        part: fold_items(items, options.fold, part=part, folds=options.folds, seed=config["split_seed"])
        for part in ("training", "validation")
    }
    ours = bundle_decoding(config, options.size)
    ways: dict[str, tuple[Callable[[int], nn.Module], list[Transform]]] = {
        PLAIN: (
            lambda seed: train_plain(options, config, parts["training"], seed),
            decoding(config, options.size, keys="image"),
        ),
        SAME: (lambda seed: train_bundle(options, seed, same_recipe(config)), ours),
        ONE_SIZE: (lambda seed: train_bundle(options, seed, {"size_stages": [[0, 1]]}), ours),
        OURS: (lambda seed: train_bundle(options, seed), ours),
    }
    ways = {name: ways[name] for name in options.ways}
    scores: dict[str, list[float]] = {name: [] for name in ways}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in options.seeds:
            for name, (train, decode) in ways.items():
                began = time.perf_counter()
                network = train(seed)
                seconds[name].append(time.perf_counter() - began)
                scores[name].append(dice(network, parts["validation"], decode, options.device))
                print(f"seed {seed}, {name}: Dice {scores[name][-1]:.4f}, {seconds[name][-1]:.0f} s", flush=True)
    print(f"\n{table(options, parts, scores, seconds)}")
    if options.output:
        record = {"settings": vars(options), "dice": scores, "seconds": seconds}
        write_text(options.output, json.dumps(record, indent=1, default=str) + "\n")


def train_bundle(options: argparse.Namespace, seed: int, changes: Mapping[str, object] | None = None) -> nn.Module:
    """The network with the weights that the bundle leaves after its last epoch: their average."""
    with TemporaryDirectory() as folder:
        workflow = ConfigWorkflow(
            config_file=str(BUNDLE),
            workflow_type="train",
            logging_file=False,
            bundle_root=str(BUNDLE.parents[1]),
            dataset_dir=str(options.dataset_dir),
            output_dir=folder,
            device=options.device,
            fold=options.fold,
            folds=options.folds,
            seed=seed,
            max_epochs=options.epochs,
            spatial_size=list(options.size),
            batch_size=options.batch_size,
            val_interval=options.epochs,
            encoder_weights=options.encoder_weights,
            **(changes or {}),
        )
        workflow.initialize()
        workflow.run()
        workflow.finalize()
        network = workflow.parser.get_parsed_content("network")
        network.load_state_dict(torch.load(Path(folder) / "final.pt", weights_only=True))
    return network


def same_recipe(config: Mapping) -> dict[str, object]:
    """What is changed in the bundle so that it does what the plain pipeline does."""
    colour = "monai_ext.transforms.RandomColour"
    spatial = [part for part in config["train"]["augmentation"]["parts"] if part["_target_"] != colour]
    intensity = [
        {"_target_": colour, "brightness": 0.2},
        {"_target_": "monai_ext.transforms.RandomGamma", "gamma": [0.8, 1.2]},
    ]
    return {
        "size_stages": [[0, 1]],
        "ema_decay": 0.0,
        "zoom_range": [[0.78, 1.28]] * 2,
        "train#augmentation#parts": spatial + intensity,
    }


def train_plain(options: argparse.Namespace, config: Mapping, items: Sequence[Mapping], seed: int) -> nn.Module:
    """The network after the last epoch of the pipeline that MONAI's tutorials teach."""
    set_determinism(seed)
    transforms = decoding(config, options.size)
    transforms[-1:] = [*augmentation(options.size), transforms[-1]]
    dataset = CacheDataset(items, Compose(transforms), progress=False)
    loader = DataLoader(
        dataset,
        batch_size=options.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
    )
    given = {key: value for key, value in config["network_def"].items() if key != "_target_"}
    network = MobileNetV2UNet(**(given | {"out_channels": 1, "encoder_weights": options.encoder_weights})).to(
        options.device
    )
    optimizer = torch.optim.Adam(network.parameters(), config["learning_rate"], fused=True)
    schedule = one_cycle(optimizer, epochs=options.epochs, loader=loader)
    SupervisedTrainer(
        options.device,
        options.epochs,
        loader,
        network,
        optimizer,
        DiceCELoss(sigmoid=True),
        train_handlers=[
            LrScheduleHandler(schedule, print_lr=False, epoch_level=False),
            BatchNormUnfolder(network),  # for weights whose BatchNorm is folded, as the bundle does
        ],
        decollate=False,
    ).run()
    return network


def decoding(config: Mapping, size: Sequence[int], keys: str | Sequence[str] = KEYS) -> list[Transform]:
    """From paths to normalised float32, (C, H, W), as MONAI's tutorials do it; normalisation last."""
    ways = {"image": ("bilinear", True), "label": ("nearest", False)}
    mode, smooth = zip(*(ways[key] for key in ensure_tuple(keys)), strict=True)
    return [
        LoadImaged(keys, reader="PILReader", reverse_indexing=False, image_only=True),
        EnsureChannelFirstd(keys),
        Resized(keys, size, mode=mode, anti_aliasing=smooth),
        ScaleIntensityRanged(keys, 0, 255, 0, 1),
        NormalizeIntensityd("image", subtrahend=config["mean"], divisor=config["std"], channel_wise=True),
    ]


def bundle_decoding(config: Mapping, size: Sequence[int]) -> list[Transform]:
    """The same as the bundle does it in its evaluation."""
    mean, std = ([255 * value for value in config[key]] for key in ("mean", "std"))
    return [
        DecodeImaged(size),
        NormalizeIntensityd("image", subtrahend=mean, divisor=std, channel_wise=True),
        ToTensord("image", track_meta=False),
    ]


def augmentation(size: Sequence[int]) -> list[Transform]:
    """The bundle's ranges in MONAI's words; its matrices lead from the result back to the source."""
    return [
        RandFlipd(KEYS, prob=0.5, spatial_axis=0),
        RandFlipd(KEYS, prob=0.5, spatial_axis=1),
        RandAffined(
            KEYS,
            prob=1.0,
            rotate_range=math.pi,
            scale_range=[(1 / 1.28 - 1, 1 / 0.78 - 1)] * 2,
            translate_range=[0.1 * side for side in size],
            mode=("bilinear", "nearest"),
            padding_mode="reflection",
        ),
        RandScaleIntensityd("image", factors=0.2, prob=1.0),
        RandAdjustContrastd("image", gamma=(0.8, 1.2), prob=1.0),
    ]


@torch.no_grad()
def dice(
    network: nn.Module, items: Sequence[Mapping[str, str]], decode: Sequence[Transform], device: torch.device | str
) -> float:
    """Mean Dice over the cases, each at the own size of its mask; masks are cut at probability 1/2, both empty is 1.

    Args:
        items: with the paths "image" and "label".
        decode: from an item's image to what the network takes.
    """
    metric = DiceMetric(ignore_empty=False)
    network.eval()
    images = DataLoader(Dataset([{"image": item["image"]} for item in items], Compose(decode)), batch_size=16)
    masks = (read_mask(item["label"])[None] for item in items)
    for batch in images:
        for logits, mask in zip(network(batch["image"].to(device)).cpu().split(1), masks, strict=False):
            resized = interpolate(logits, mask.shape[2:], mode="bilinear", align_corners=False)
            metric((resized > 0).float(), mask.float())
    return metric.aggregate().item()


def table(
    options: argparse.Namespace, parts: Mapping[str, Sequence], scores: Mapping[str, list], seconds: Mapping[str, list]
) -> Table:
    """One row for each seed, and their mean."""
    rows = []
    for number, seed in enumerate([*options.seeds, "mean"]):
        row = [mean(values) if seed == "mean" else values[number] for values in scores.values()]
        times = [mean(values) if seed == "mean" else values[number] for values in seconds.values()]
        rows.append([f"{seed}", *(f"{score:.4f}" for score in row), *(f"{time:.0f}" for time in times)])
    size = " x ".join(map(str, options.size))
    return Table(
        f"Mean Dice of fold {options.fold} of {options.folds} ({len(parts['training'])} cases to train on, "
        f"{len(parts['validation'])} to score, each at its own size) after {options.epochs} epochs at {size}, batch "
        f"{options.batch_size}.",
        ["seed", *scores, *(f"{name}, s" for name in seconds)],
        rows,
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.same_results",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dataset_dir", type=Path, required=True, help="folder of a lesion data set, see lesion_unet")
    parser.add_argument("--fold", type=int, default=0, help="held out (default: 0)")
    parser.add_argument("--folds", type=int, default=5, help="(default: 5)")
    parser.add_argument("--epochs", type=int, default=12, help="of both (default: 12)")
    parser.add_argument(
        "--seeds", type=_numbers, default=[0, 1], help="one run of each pipeline for each (default: 0,1)"
    )
    parser.add_argument("--size", type=_numbers, default=[96, 128], help="H,W (default: 96,128)")
    parser.add_argument("--ways", type=_ways, default=WAYS, help=f"which of {', '.join(WAYS)} (default: all)")
    parser.add_argument("--batch_size", type=int, default=16, help="(default: 16)")
    parser.add_argument("--workers", type=int, default=2, help="processes of MONAI's DataLoader (default: 2)")
    parser.add_argument("--encoder_weights", help="file of MobileNetV2 weights (default: random)")
    parser.add_argument("--device", type=torch.device, default="cpu", help="(default: cpu)")
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    return parser.parse_args(arguments)


def _ways(text: str) -> list[str]:
    names = text.split(",")
    if not set(names) <= set(WAYS):
        raise argparse.ArgumentTypeError(f"{text!r}: choose among {', '.join(WAYS)}")
    return names


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    sys.exit(main())
