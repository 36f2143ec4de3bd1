"""Bring predictions back to the picture or volume as it was read."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from monai_ext.formulas.grids import restored
from monai_ext.formulas.regions import paste_region

__all__ = ["RestoreSized"]


class RestoreSized(MapTransform):
    """Brings maps (C, *spatial) to the item's "original_size", and those of volumes to its "original_affine".

    See `monai_ext.formulas.grids.restored`. Maps of a region of interest, if the item has one as "roi" (see
    `monai_ext.formulas.regions`), are put into their place among zeros.

    Args:
        keys: maps to resize: logits or probabilities, floating point.
    """

    def __init__(self, keys: KeysCollection):
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        size = tuple(int(side) for side in item["original_size"])
        for key in self.key_iterator(item):
            maps = torch.as_tensor(item[key])
            if "roi" in item:
                item[key] = paste_region(maps, item["roi"], size).to(maps.dtype)
            elif "affine" in item or maps.shape[1:] != size:
                places = {"affine": item.get("affine"), "original": item.get("original_affine")}
                item[key] = restored(maps, size, **places).to(maps.dtype)
        return item
