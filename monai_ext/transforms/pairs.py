"""Pairs for super-resolution made on the device: crops of high-resolution tiles and their degradation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor

from monai_ext.transforms.augmentations import Augmentation
from monai_ext.transforms.batch import FULL_SCALE, BatchAugment
from monai_ext.transforms.degradation import Degradation
from monai_ext.transforms.parameters import AugmentParameters

__all__ = ["PairedCrops", "ToUnitRanged", "take_crops"]


def take_crops(tiles: Tensor, corner: Tensor, size: int) -> Tensor:
    """A square of `size` pixels from each tile, (B, C, size, size), by index: exact, on any type, without waiting.

    Args:
        tiles: (B, C, H, W).
        corner: (B, 2) in [0, 1): where the upper left corner lies between the first place and the last, (H, W) order.

    Raises:
        ValueError: a tile is smaller than the crop.
    """
    height, width = tiles.shape[-2:]
    if min(height, width) < size:
        raise ValueError(f"tiles of {height} x {width} pixels are smaller than crop_size={size}: choose a smaller one.")
    top = (corner[:, 0] * (height - size + 1)).long().clamp(max=height - size)
    left = (corner[:, 1] * (width - size + 1)).long().clamp(max=width - size)
    steps = torch.arange(size, device=tiles.device)
    rows, columns = (top[:, None] + steps)[:, None, :, None], (left[:, None] + steps)[:, None, None, :]
    batch = torch.arange(len(tiles), device=tiles.device)[:, None, None, None]
    channel = torch.arange(tiles.shape[1], device=tiles.device)[None, :, None, None]
    # indexing does not support uint16 everywhere; its bits may be moved as int16
    source = tiles.view(torch.int16) if tiles.dtype == torch.uint16 else tiles
    return source[batch, channel, rows, columns].view(tiles.dtype)


class PairedCrops(BatchAugment):
    """Batch of tiles -> image: low resolution (B, C, h, w), label: high resolution (B, C, s h, s w), both in [0, 1].

    Tiles are cropped at random, augmented, then degraded; without a crop size they are paired whole, for validation.
    Crops, augmentation and the degradation's noise are drawn with the epoch's other random numbers (see
    `DeviceLoader`), so that a resumed run sees the pairs of an uninterrupted one; the noise of whole tiles depends on
    their place in the epoch alone.

    A degradation that rounds takes the "levels" of the batch, where it has them: those of the tiles' files.

    Args:
        degradation: the operator, called as degradation(high_res, generator=...); has `scale`.
        parts: augmentation of the high resolution, see `BatchAugment`.
        crop_size: side of the high-resolution crop in pixels, a multiple of the scale; None keeps whole tiles.
        kwargs: as for `BatchAugment`.

    Raises:
        ValueError: a crop that is no multiple of the scale, or larger than a tile.
    """

    def __init__(
        self,
        degradation: Degradation,
        parts: Sequence[Augmentation] = (),
        *,
        crop_size: int | None = None,
        **kwargs: Any,
    ):
        if crop_size is not None and (crop_size < degradation.scale or crop_size % degradation.scale):
            raise ValueError(f"crop_size={crop_size} must be a multiple of the scale, {degradation.scale}.")
        super().__init__(parts, label_key=None, **kwargs)
        self.degradation = degradation
        self.crop_size = crop_size

    def draw(self, count: int, generator: torch.Generator | None = None) -> AugmentParameters:
        parameters = super().draw(count, generator)
        if self.crop_size is None:
            parameters.values["low_res_seed"] = torch.arange(count)
        else:
            parameters.tensors["corner"] = torch.rand(count, 2, generator=generator)
            parameters.values["low_res_seed"] = torch.randint(2**31, (count,), generator=generator)
        return parameters

    @torch.no_grad()
    def apply(self, batch: Mapping, parameters: AugmentParameters) -> dict:
        tiles = batch["image"].as_subclass(Tensor)
        if self.crop_size is not None:
            if len(parameters) != len(tiles):
                raise ValueError(f"{len(tiles)} tiles, but parameters of {len(parameters)} were drawn.")
            tiles = take_crops(tiles, parameters.tensors["corner"].to(tiles.device), self.crop_size)
            batch = {key: value for key, value in batch.items() if key != "known"}  # it is of whole tiles
        result = super().apply({**batch, "image": tiles}, parameters)
        high_res = result.pop("image")
        generator = torch.Generator().manual_seed(int(parameters.values["low_res_seed"][0]))  # on the host
        degradation = self.degradation
        if "levels" in batch and degradation.levels is not None:
            degradation = degradation.rounded(int(batch["levels"][0]))
        return result | {"image": degradation(high_res, generator=generator), "label": high_res}


class ToUnitRanged(MapTransform):
    """Unsigned integers -> float32 in [0, 1]; "levels", the largest value of their type, joins the item.

    Raises (when called):
        ValueError: another type than uint8 and uint16.
    """

    def __init__(self, keys: KeysCollection = "image"):
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.keys:
            if item[key].dtype not in (torch.uint8, torch.uint16):
                raise ValueError(f"{key} is of {item[key].dtype}: expected uint8 or uint16.")
            item["levels"] = int(FULL_SCALE[item[key].dtype])
            item[key] = item[key].to(torch.float32) / item["levels"]
        return item
