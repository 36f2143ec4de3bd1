"""Resize predictions to the picture as it was read."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor

from monai_ext.formulas.regions import paste_region

__all__ = ["RestoreSized"]


class RestoreSized(MapTransform):
    """Resizes maps (C, h, w) to the (H, W) under `size_key`, bilinear, antialiased where they shrink.

    Maps of a region of interest, if the item has one under `roi_key`, are put into their place among zeros.

    Args:
        keys: maps to resize: logits or probabilities, floating point.
        size_key: item of two numbers, the height and width of the picture as it was read.
        roi_key: item of four numbers, see `monai_ext.formulas.regions`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        size_key: str = "original_size",
        roi_key: str = "roi",
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        self.size_key, self.roi_key = size_key, roi_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        height, width = (int(side) for side in item[self.size_key])
        for key in self.key_iterator(item):
            maps = torch.as_tensor(item[key])
            if self.roi_key in item:
                item[key] = paste_region(maps, item[self.roi_key], (height, width)).to(maps.dtype)
            elif maps.shape[-2:] != (height, width):
                item[key] = _resized(maps, (height, width))
        return item


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    resized = F.interpolate(maps[None].float(), size, mode="bilinear", align_corners=False, antialias=True)
    return resized[0].to(maps.dtype)
