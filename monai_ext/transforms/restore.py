"""Predictions back at the size of the picture they were made for."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor

__all__ = ["RestoreSized"]


class RestoreSized(MapTransform):
    """Resizes maps (C, h, w) to the (H, W) under `size_key`, bilinear, antialiased where they shrink.

    Args:
        keys: maps to resize: logits or probabilities, floating point.
        size_key: item of two numbers, the height and width of the picture as it was read.
    """

    def __init__(self, keys: KeysCollection, *, size_key: str = "original_size", allow_missing_keys: bool = False):
        super().__init__(keys, allow_missing_keys)
        self.size_key = size_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        height, width = (int(side) for side in item[self.size_key])
        for key in self.key_iterator(item):
            maps = torch.as_tensor(item[key])
            if maps.shape[-2:] != (height, width):
                item[key] = _resized(maps, (height, width))
        return item


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    resized = F.interpolate(maps[None].float(), size, mode="bilinear", align_corners=False, antialias=True)
    return resized[0].to(maps.dtype)
