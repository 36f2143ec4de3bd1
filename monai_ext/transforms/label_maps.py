"""Predictions as MONAI Label's writer takes them."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from monai_ext.raster.nifti import is_volume_file, open_nifti

__all__ = ["LabelMapd", "TakeMapd"]


class TakeMapd(MapTransform):
    """One map of a prediction that holds several.

    MONAI Label puts what an inferer gives, such as {"pred", "probability", ...}, into the item whole, as "pred".

    Args:
        keys: of the predictions; tensors stay as they are.
        name: of the map to keep.
    """

    def __init__(self, keys: KeysCollection, *, name: str):
        super().__init__(keys)
        self.name = name

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            if isinstance(item[key], Mapping):
                item[key] = item[key][self.name]
        return item


class LabelMapd(MapTransform):
    """From a probability map (1, H, W) to the label map of its file: uint8 of 0 and 1, axes as MONAI reads them.

    MONAI's readers have x, the column, as the first axis of a photograph, and the axes of NIfTI and NRRD files as
    stored; MONAI Label's writer expects label maps in that order, without channel. A photograph gives (W, H), and a
    volume file its own axes, three at least, and its affine in "image_meta_dict", so that the label lies where the
    image does. Without a file, in "image_path" or "image", it is taken for a photograph.

    Args:
        keys: probability maps at the size of the file.
        threshold: foreground is probability > threshold.
        as_stored: maps of volume files have the axes of the file, as `DecodeRaters` reads them; False: rows are the
            second axis of the file, as `DecodeImaged` reads them.
    """

    def __init__(self, keys: KeysCollection, *, threshold: float = 0.5, as_stored: bool = False):
        super().__init__(keys)
        self.threshold, self.as_stored = threshold, as_stored

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        file = item.get("image_path", item.get("image"))
        volume = file if isinstance(file, str | os.PathLike) and is_volume_file(file) else None
        for key in self.key_iterator(item):
            mask = (torch.as_tensor(item[key])[0] > self.threshold).to(torch.uint8).cpu().numpy()
            mask = mask if volume and self.as_stored else mask.T
            item[key] = np.ascontiguousarray(mask[..., None] if volume and mask.ndim == 2 else mask)
        if volume:
            item["image_meta_dict"] = {"original_affine": np.asarray(open_nifti(volume).affine)}
        return item
