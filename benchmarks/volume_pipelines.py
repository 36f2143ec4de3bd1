"""Pipelines from volumes in memory to augmented batches of crops: MONAI's, TorchIO's and ours, with the same changes.

Half of the crops are centred on the foreground; each axis is mirrored in every second crop, each crop is turned by -15
to 15 degrees about the axis of its slices and zoomed by 0.9 to 1.1, as in MONAI's tutorials of CT. A batch is a dict of
image (8, 1, *S) in [0, 1] and label (8, 1, *S) in {0, 1}, both float32.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.data import CacheDataset, DataLoader, SmartCacheDataset, ThreadDataLoader
from monai.transforms import (
    Compose,
    EnsureTyped,
    FgBgToIndicesd,
    RandAffined,
    RandCropByPosNegLabeld,
    RandFlipd,
    ScaleIntensityRanged,
    Transform,
)
from torch import Tensor

from benchmarks.pipelines import Pipeline, without_metadata
from benchmarks.workbench import KEYS
from monai_ext.data import DeviceDataset, DeviceLoader, RandomCrops
from monai_ext.transforms import BatchAugment, RandomAffine, RandomFlip

CACHED = "CacheDataset, RandCropByPosNegLabeld, DataLoader"
SMART = "SmartCacheDataset, DataLoader"
FAST = "MONAI's fast-training recipe in 3-D"
TORCHIO = "TorchIO's Queue"
OURS = "DeviceDataset, RandomCrops, DeviceLoader"
VOLUMES, CROPS = 2, 4  # of a batch, and of each volume of it
BATCH = VOLUMES * CROPS
DEGREES, ZOOM = 15.0, 0.1


@dataclass(frozen=True)
class Volumes:
    """Volumes of noise with a marked ball, items of uint8 tensors (1, *S) with 0 ... 255 and 0 or 1; size of crops."""

    items: Sequence[Mapping]
    crop: tuple[int, int, int]


def volumes(count: int, size: tuple[int, int, int], crop: tuple[int, int, int]) -> Volumes:
    generator = torch.Generator().manual_seed(0)
    axes = torch.meshgrid(*[torch.linspace(-1, 1, side) for side in size], indexing="ij")
    items = []
    for number in range(count):
        centre = torch.rand(3, generator=generator) - 0.5
        distance = sum((axis - place) ** 2 for axis, place in zip(axes, centre, strict=True))
        image = torch.randint(0, 256, (1, *size), dtype=torch.uint8, generator=generator)
        items.append({"id": f"{number}", "image": image, "label": (distance < 0.1).to(torch.uint8)[None]})
    return Volumes(items, crop)


def ours(device: torch.device, data: Volumes) -> DeviceLoader:
    """Volumes as bytes, masks as bits, crops of an epoch drawn at once, augmented in whole batches."""
    dataset = DeviceDataset(data.items, dict, device=device, bit_keys=["label"], progress=False, num_workers=0)
    crops = RandomCrops(data.crop, foreground_share=0.5, per_item=CROPS)
    augment = BatchAugment([RandomFlip(), RandomAffine((0, 0, DEGREES), (1 - ZOOM, 1 + ZOOM))], spatial_dims=3)
    return DeviceLoader(dataset, BATCH, shuffle=True, drop_last=True, crops=crops, transform=augment)


def _decode() -> list[Transform]:
    """What `LoadImaged` and `ScaleIntensityRanged` leave in a cache: float32, the label as well."""
    return [EnsureTyped(KEYS, dtype=torch.float32), ScaleIntensityRanged("image", 0, 255, 0, 1)]


def _augmentation(crop: Sequence[int], **indices: str) -> list[Transform]:
    around: dict[str, Any] = {"label_key": "label", "pos": 1, "neg": 1, "num_samples": CROPS, **indices}
    return [
        RandCropByPosNegLabeld(KEYS, spatial_size=crop, **around),
        *(RandFlipd(KEYS, prob=0.5, spatial_axis=axis) for axis in range(3)),
        RandAffined(
            KEYS, prob=1.0, rotate_range=[0.0, 0.0, math.radians(DEGREES)], scale_range=[ZOOM] * 3,
            mode=("bilinear", "nearest"), padding_mode="reflection",
        ),
    ]  # fmt: skip


def cached(data: Volumes) -> CacheDataset:
    """MONAI's cached data set with everything at its defaults."""
    return CacheDataset(data.items, Compose([*_decode(), *_augmentation(data.crop)]), progress=False, num_workers=0)


def smart(data: Volumes) -> SmartCacheDataset:
    """As many volumes in the cache as the others hold, of twice as many; a fifth of them is replaced in each epoch."""
    return SmartCacheDataset(
        [*data.items, *data.items],
        Compose([*_decode(), *_augmentation(data.crop)]),
        replace_rate=0.2,
        cache_num=len(data.items),
        progress=False,
        num_init_workers=1,
        num_replace_workers=1,
    )


def fast_cache(data: Volumes, device: torch.device) -> CacheDataset:
    """The data set of the tutorial on fast training: the places of crops are found once, all lies on the device."""
    places = [FgBgToIndicesd("label", fg_postfix="_fg", bg_postfix="_bg")]
    strip = EnsureTyped([*KEYS, "label_fg", "label_bg"], device=device, track_meta=False)
    around = {"fg_indices_key": "label_fg", "bg_indices_key": "label_bg"}
    transform = Compose([*_decode(), *places, strip, *_augmentation(data.crop, **around)])
    return CacheDataset(data.items, transform, copy_cache=False, progress=False, num_workers=0)


def batches(dataset: Any, *, workers: int = 0) -> DataLoader:
    """A loader of MONAI's, in this thread or in workers that stay from one epoch to the next."""
    return DataLoader(
        dataset, batch_size=VOLUMES, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )


def fast(data: Volumes, device: torch.device) -> Pipeline:
    """The tutorial's loader: a thread, without metadata."""
    return without_metadata(
        ThreadDataLoader(fast_cache(data, device), num_workers=0, batch_size=VOLUMES, shuffle=True, drop_last=True)
    )


def smart_epochs(data: Volumes) -> Pipeline:
    """`smart` with its replacement between epochs, as `SmartCacheHandler` does it."""
    dataset = smart(data)
    loader = batches(dataset)
    dataset.start()

    def epoch() -> Iterator[dict[str, Tensor]]:
        yield from loader
        dataset.update_cache()

    return epoch


def has_torchio() -> bool:
    return importlib.util.find_spec("torchio") is not None


def torchio_queue(data: Volumes, *, workers: int = 0) -> Pipeline:
    """Whole volumes are augmented, and patches of them are drawn into a queue that is shuffled."""
    import torchio

    subjects = [
        torchio.Subject(
            image=torchio.ScalarImage(tensor=item["image"].float() / 255), label=torchio.LabelMap(tensor=item["label"])
        )
        for item in data.items
    ]
    change = torchio.Compose(
        [
            torchio.RandomFlip(axes=(0, 1, 2)),
            torchio.RandomAffine(scales=ZOOM, degrees=(0, 0, DEGREES), default_pad_value=0),
        ]
    )
    sampler = torchio.LabelSampler(data.crop, "label", {0: 1, 1: 1})
    queue = torchio.Queue(
        torchio.SubjectsDataset(subjects, transform=change), max_length=BATCH * 2, samples_per_volume=CROPS,
        sampler=sampler, num_workers=workers,
    )  # fmt: skip
    loader = torchio.SubjectsLoader(queue, batch_size=BATCH, num_workers=0, drop_last=True)

    def epoch() -> Iterator[dict[str, Tensor]]:
        for batch in loader:
            yield {key: batch[key]["data"].float() for key in KEYS}

    return epoch


def held_bytes(dataset: CacheDataset) -> int:
    """Bytes of the tensors of a cache."""
    return sum(value.nbytes for item in dataset._cache for value in item.values() if isinstance(value, Tensor))
