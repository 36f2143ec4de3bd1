"""Shared by all benchmarks: device, repetitions, pictures and network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from monai.transforms import EnsureChannelFirstd, EnsureTyped, LoadImaged, Resized, ScaleIntensityRanged, Transform
from torch import Tensor, nn

from monai_ext.data import DecodeImaged, lesion_items, write_lesion_phantoms

KEYS = ("image", "label")
PHOTO_SIZE = (450, 600)  # the size of most dermoscopy archives
BATCH_SIZE = 16

T = TypeVar("T")


@dataclass(frozen=True)
class Pictures:
    """The same pictures and masks for every pipeline, with the decoder that each library would use.

    Attributes:
        items: mappings with "id", "image" and "label": paths of photographs, or uint8 tensors of 0 ... 255.
        size: (H, W) after decoding.
        decode: ours, item -> uint8 tensors.
        monai_decode: MONAI's transforms, item -> float32 in [0, 1].
    """

    items: Sequence[Mapping]
    size: tuple[int, int]
    decode: Callable[[Mapping], Mapping]
    monai_decode: Sequence[Transform]


@dataclass(frozen=True)
class Bench:
    """Settings of a run.

    Attributes:
        device: where the tensors are wanted.
        folder: where photographs and caches are written; photographs that lie there are used again.
        images: number of photographs.
        rounds: how often each variant is measured.
        workers: processes of each DataLoader.
        quick: much less of everything: shows that it runs, the numbers mean little.
    """

    device: torch.device
    folder: Path
    images: int = 192
    rounds: int = 5
    workers: int = 2
    quick: bool = False

    def pick(self, full: T, quick: T) -> T:
        """The amount of work for this run."""
        return quick if self.quick else full

    def photographs(self) -> Pictures:
        """JPEG photographs (drawn, 600 x 450) with PNG masks, wanted at 256 x 256."""
        count, size = self.pick(self.images, BATCH_SIZE), self.pick((256, 256), (64, 64))
        folder = self.folder / f"photographs-{self.pick('full', 'quick')}"
        write_lesion_phantoms(folder, count=count, size=PHOTO_SIZE)
        return Pictures(lesion_items(folder)[:count], size, DecodeImaged(size), monai_decode(size))


def monai_decode(size: tuple[int, int]) -> list[Transform]:
    """MONAI's transforms from the paths of a photograph and its mask to float32 in [0, 1] at `size`."""
    return [
        LoadImaged(KEYS, image_only=True),
        EnsureChannelFirstd(KEYS),
        Resized(KEYS, size, mode=("bilinear", "nearest")),
        ScaleIntensityRanged(KEYS, 0, 255, 0, 1),
    ]


def probes(count: int, *, side: int = 8) -> Pictures:
    """Pictures so small that what they cost is the host's share: the calls, not the pixels."""
    generator = torch.Generator().manual_seed(0)
    items = []
    for number in range(count):
        image = torch.randint(0, 256, (3, side, side), dtype=torch.uint8, generator=generator)
        items.append({"id": f"{number}", "image": image, "label": (image[:1] > 127).to(torch.uint8) * 255})
    return Pictures(items, (side, side), dict, [EnsureTyped(KEYS), ScaleIntensityRanged(KEYS, 0, 255, 0, 1)])


def small_network(seed: int = 0) -> nn.Module:
    """Three layers: the step of a loop whose overhead is to be seen."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1)
    )


def batches_on_device(device: torch.device, count: int, size: tuple[int, int]) -> list[dict[str, Tensor]]:
    """`count` batches of noise and masks that follow from it, float32, on `device`; no mask is empty."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(count):
        image = torch.rand(BATCH_SIZE, 3, *size, generator=generator)
        label = (image.mean(1, keepdim=True) > 0.5).float()
        batches.append({"image": image.to(device), "label": label.to(device)})
    return batches
