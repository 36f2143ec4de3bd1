"""Augmentation of pictures held in memory on a CPU: albumentations and kornia against ours, CPU time a picture.

A batch is 16 pictures, mirrored along both axes and rotated by any angle, normalised, as float tensors, with their
masks; in the rows "with colour" brightness, contrast, saturation and hue change as well.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks.measure import in_turn, middle, one_thread, timed, times_cheaper
from benchmarks.report import Result, Table
from benchmarks.workbench import BATCH_SIZE, Bench, Pictures, probes
from monai_ext.data import DeviceDataset, DeviceLoader
from monai_ext.transforms import BatchAugment, RandomAffine, RandomColour, RandomFlip
from monai_ext.transforms.opencv_warp import opencv

ALBUMENTATIONS, KORNIA = "albumentations", "kornia, whole batches"
TORCH, OPENCV = "BatchAugment", "BatchAugment by OpenCV"
WITH_COLOUR = ", with colour"
NORMAL = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
Epoch = Callable[[], None]


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def ours(pictures: Pictures, *, colour: bool, by_opencv: bool) -> Epoch:
    dataset = DeviceDataset(pictures.items, dict, progress=False, num_workers=0)
    parts = [RandomFlip(), RandomAffine(rotate=180)]
    if colour:
        parts.append(RandomColour(brightness=0.2, contrast=0.2, saturation=0.3, hue=0.03))
    augment = BatchAugment(parts, opencv=by_opencv, **NORMAL)
    loader = DeviceLoader(dataset, BATCH_SIZE, shuffle=True, drop_last=True, transform=augment)

    def epoch() -> None:
        for _ in loader:
            pass

    return epoch


def albumentations_way(pictures: Pictures, *, colour: bool) -> Epoch:
    """Arrays (H, W, C) in memory, one picture after the other, stacked."""
    a, cv2 = importlib.import_module("albumentations"), importlib.import_module("cv2")
    cv2.setNumThreads(0)
    images = [item["image"].permute(1, 2, 0).numpy().copy() for item in pictures.items]
    masks = [item["label"][0].numpy() for item in pictures.items]
    rotation = a.Affine(rotate=(-180, 180), p=1.0, border_mode=cv2.BORDER_REFLECT)
    parts = [a.HorizontalFlip(p=0.5), a.VerticalFlip(p=0.5), rotation]
    if colour:
        ranges = {"brightness": (0.8, 1.2), "contrast": (0.8, 1.2), "saturation": (0.7, 1.3), "hue": (-0.03, 0.03)}
        parts.append(a.ColorJitter(p=1.0, **ranges))
    augment = a.Compose([*parts, a.Normalize(**NORMAL)])
    order = np.random.default_rng(0)

    def epoch() -> None:
        places = order.permutation(len(images))
        for first in range(0, len(images) - BATCH_SIZE + 1, BATCH_SIZE):
            made = [augment(image=images[i], mask=masks[i]) for i in places[first : first + BATCH_SIZE]]
            torch.from_numpy(np.stack([each["image"].transpose(2, 0, 1) for each in made]))
            torch.from_numpy(np.stack([each["mask"] for each in made])[:, None]).float()

    return epoch


def kornia_way(pictures: Pictures, *, colour: bool) -> Epoch:
    """Batches of bytes in memory, picked by index, then kornia's sequence of whole batches."""
    k = importlib.import_module("kornia.augmentation")
    images = torch.stack([item["image"] for item in pictures.items])
    masks = torch.stack([item["label"] for item in pictures.items])
    parts = [k.RandomHorizontalFlip(p=0.5), k.RandomVerticalFlip(p=0.5), k.RandomRotation(180.0, p=1.0)]
    if colour:
        parts.append(k.ColorJitter(0.2, 0.2, 0.3, 0.03, p=1.0))
    parts.append(k.Normalize(mean=torch.tensor(NORMAL["mean"]), std=torch.tensor(NORMAL["std"])))
    augment = k.AugmentationSequential(*parts, data_keys=["input", "mask"])

    def epoch() -> None:
        for places in torch.randperm(len(images)).split(BATCH_SIZE):
            augment(images[places].float() / 255, masks[places].float())

    return epoch


def epochs(pictures: Pictures) -> dict[str, Epoch]:
    """All that can be imported."""
    made: dict[str, Epoch] = {}
    for colour in (False, True):
        name = WITH_COLOUR if colour else ""
        if _installed("albumentations"):
            made[ALBUMENTATIONS + name] = albumentations_way(pictures, colour=colour)
        if _installed("kornia"):
            made[KORNIA + name] = kornia_way(pictures, colour=colour)
        made[TORCH + name] = ours(pictures, colour=colour, by_opencv=False)
        if opencv() is not None:
            made[OPENCV + name] = ours(pictures, colour=colour, by_opencv=True)
    return made


@one_thread()
def run(bench: Bench) -> Result:
    side = bench.pick(256, 32)
    pictures = probes(bench.pick(4, 1) * BATCH_SIZE, side=side)
    made = epochs(pictures)
    costs = in_turn(
        {name: partial(timed, each, torch.device("cpu")) for name, each in made.items()}, rounds=bench.rounds
    )
    rows = []
    for name in costs:
        suffix = WITH_COLOUR if name.endswith(WITH_COLOUR) else ""
        best = OPENCV + suffix if OPENCV + suffix in costs else TORCH + suffix
        milliseconds = 1000 * middle(costs[name], "cpu") / len(pictures.items)
        rows.append([name, f"{milliseconds:.2f}", f"{times_cheaper(costs[best], costs[name], 'cpu'):.2f}"])
    table = Table(
        f"{len(pictures.items)} pictures of {side} x {side} in memory, batches of {BATCH_SIZE}, on the CPU with one "
        f"thread, median of {bench.rounds} rounds.",
        ["augmentation", "CPU ms/picture", "ours x faster"],
        rows,
    )
    values = {}
    for key, suffix in (("plain", ""), ("colour", WITH_COLOUR)):
        if {ALBUMENTATIONS + suffix, OPENCV + suffix} <= set(costs):
            values[f"augment.{key}"] = times_cheaper(costs[OPENCV + suffix], costs[ALBUMENTATIONS + suffix], "cpu")
    missing = [name for name in ("albumentations", "kornia", "cv2") if not _installed(name)]
    notes = [f"Left out, since not installed: {', '.join(missing)}."] if missing else []
    return Result("Augmentation on a CPU", [table], values, notes)
