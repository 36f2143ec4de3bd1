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
    """Resizes maps (C, h, w) to the item's "original_size", (H, W), bilinear, antialiased where they shrink.

    Maps of a region of interest, if the item has one as "roi" (see `monai_ext.formulas.regions`), are put into their
    place among zeros.

    Args:
        keys: maps to resize: logits or probabilities, floating point.
    """

    def __init__(self, keys: KeysCollection):
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        height, width = (int(side) for side in item["original_size"])
        for key in self.key_iterator(item):
            maps = torch.as_tensor(item[key])
            if "roi" in item:
                item[key] = paste_region(maps, item["roi"], (height, width)).to(maps.dtype)
            elif maps.shape[-2:] != (height, width):
                item[key] = _resized(maps, (height, width))
        return item


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    resized = F.interpolate(maps[None].float(), size, mode="bilinear", align_corners=False, antialias=True)
    return resized[0].to(maps.dtype)
