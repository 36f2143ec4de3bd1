"""Pipelines from pictures to augmented batches on the device, the field's and ours: same pictures and augmentation.

Augmentation: each axis mirrored in every second picture, each picture rotated by -180 ... 180 degrees (PIL fills the
corners with black, the others reflect). A batch is a dict of image (B, 3, H, W) in [0, 1] and label (B, 1, H, W) in
{0, 1}, both float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, DataLoader, ThreadDataLoader, get_track_meta, set_track_meta
from monai.data import Dataset as MonaiDataset
from monai.transforms import Compose, EnsureTyped, RandAffined, RandFlipd, RandRotated, Transform
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import Dataset

from benchmarks.workbench import BATCH_SIZE, KEYS, Bench, Pictures
from monai_ext.data import DeviceDataset, DeviceLoader
from monai_ext.transforms import BatchAugment, RandomAffine, RandomColour, RandomFlip
from monai_ext.transforms.augmentations import Augmentation

PLAIN = "PyTorch Dataset, DataLoader"
MONAI = "MONAI Dataset, DataLoader"
CACHED = "CacheDataset, DataLoader"
THREADED = "CacheDataset, ThreadDataLoader"
FAST = "MONAI's fast-training recipe"
OURS = "DeviceDataset, DeviceLoader"
OURS_COLOUR = "DeviceDataset, DeviceLoader, with colour"
COLOUR = RandomColour(brightness=0.2, contrast=0.2, saturation=0.3, hue=0.03)

Pipeline = Callable[[], Iterator[dict[str, Tensor]]]  # each call is one epoch


class PhotographFiles(Dataset):
    """What one writes without a library: decode, resize, mirror and rotate with PIL, then to tensors."""

    def __init__(self, items: Sequence[Mapping], size: tuple[int, int]):
        self.items, self.size = list(items), size

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        with Image.open(self.items[index]["image"]) as file:
            image = file.convert("RGB").resize(self.size[::-1], Image.Resampling.BILINEAR)
        with Image.open(self.items[index]["label"]) as file:
            label = file.convert("L").resize(self.size[::-1], Image.Resampling.NEAREST)
        for axis in (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM):
            if torch.rand(()) < 0.5:
                image, label = image.transpose(axis), label.transpose(axis)
        angle = float(torch.empty(()).uniform_(-180, 180))
        image, label = image.rotate(angle, Image.Resampling.BILINEAR), label.rotate(angle, Image.Resampling.NEAREST)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).to(torch.float32).div_(255)
        return {"image": pixels, "label": torch.from_numpy(np.array(label))[None].to(torch.float32).div_(255)}


def plain(bench: Bench, pictures: Pictures) -> Pipeline:
    """`PhotographFiles` in worker processes."""
    dataset = PhotographFiles(pictures.items, pictures.size)
    return _on_device(bench, TorchDataLoader(dataset, **_in_workers(bench)))


def monai_dataset(bench: Bench, pictures: Pictures) -> Pipeline:
    """Every epoch decodes again, in worker processes."""
    dataset = MonaiDataset(pictures.items, Compose([*pictures.monai_decode, *monai_augmentation()]))
    return _on_device(bench, DataLoader(dataset, **_in_workers(bench)))


def cached(bench: Bench, pictures: Pictures) -> Pipeline:
    """Decoded pictures in memory, augmented in worker processes."""
    return _on_device(bench, DataLoader(monai_cache(pictures), **_in_workers(bench)))


def threaded(bench: Bench, pictures: Pictures) -> Pipeline:
    """Decoded pictures in memory, augmented in a thread."""
    return _on_device(bench, ThreadDataLoader(monai_cache(pictures), num_workers=0, **_batches()))


def fast_recipe(bench: Bench, pictures: Pictures) -> Pipeline:
    """MONAI's guide to fast training: cache on the device, no metadata, nothing copied, a thread."""
    return without_metadata(ThreadDataLoader(fast_cache(pictures, bench.device), num_workers=0, **_batches()))


def ours(bench: Bench, pictures: Pictures, *further: Augmentation, cache_dir: Path | None = None) -> DeviceLoader:
    """Decoded pictures on the device, augmented in whole batches."""
    dataset = DeviceDataset(
        pictures.items, pictures.decode, device=bench.device, cache_dir=cache_dir, progress=False, num_workers=2
    )
    augment = BatchAugment([RandomFlip(), RandomAffine(rotate=180), *further])
    return DeviceLoader(dataset, BATCH_SIZE, shuffle=True, drop_last=True, transform=augment)


def monai_cache(pictures: Pictures, *, rotate: Transform | None = None) -> CacheDataset:
    """MONAI's cached data set with everything at its defaults."""
    return CacheDataset(
        pictures.items, Compose([*pictures.monai_decode, *monai_augmentation(rotate)]), progress=False, num_workers=2
    )


def fast_cache(pictures: Pictures, device: torch.device) -> CacheDataset:
    """The data set of `fast_recipe`; to be iterated with MONAI's metadata switched off."""
    strip = EnsureTyped(KEYS, device=device, track_meta=False)
    transform = Compose([*pictures.monai_decode, strip, *monai_augmentation()])
    return CacheDataset(pictures.items, transform, copy_cache=False, progress=False, num_workers=2)


def monai_augmentation(rotate: Transform | None = None) -> list[Transform]:
    """Two mirrorings and a rotation as MONAI's transforms of one item; `rotate` instead of `RandRotated`."""
    angles = RandRotated(KEYS, range_x=math.pi, prob=1.0, mode=("bilinear", "nearest"), padding_mode="reflection")
    return [RandFlipd(KEYS, prob=0.5, spatial_axis=0), RandFlipd(KEYS, prob=0.5, spatial_axis=1), rotate or angles]


def affine_rotation() -> Transform:
    """`RandAffined` as a rotation: cheaper than `RandRotated`."""
    return RandAffined(KEYS, rotate_range=math.pi, prob=1.0, mode=("bilinear", "nearest"), padding_mode="reflection")


def in_this_thread(dataset: MonaiDataset) -> DataLoader:
    """A loader whose operations can be counted, since they run where it is iterated."""
    return DataLoader(dataset, num_workers=0, **_batches())


def without_metadata(batches: Any) -> Pipeline:
    """`batches`, with MONAI's tracking of metadata off while they are drawn."""

    def epoch() -> Iterator[dict[str, Tensor]]:
        tracked = get_track_meta()
        set_track_meta(False)
        try:
            yield from batches
        finally:
            set_track_meta(tracked)

    return epoch


def exhaust(epoch: Pipeline) -> None:
    """Draw all batches of an epoch."""
    for _ in epoch():
        pass


def _batches() -> dict[str, Any]:
    return {"batch_size": BATCH_SIZE, "shuffle": True, "drop_last": True}


def _in_workers(bench: Bench) -> dict[str, Any]:
    """Worker processes that stay from one epoch to the next, the faster way to use them."""
    return {
        **_batches(),
        "num_workers": bench.workers,
        "persistent_workers": bench.workers > 0,
        "pin_memory": bench.device.type == "cuda",
    }


def _on_device(bench: Bench, batches: Any) -> Pipeline:
    def epoch() -> Iterator[dict[str, Tensor]]:
        for batch in batches:
            yield {key: batch[key].to(bench.device, non_blocking=True) for key in KEYS}

    return epoch
