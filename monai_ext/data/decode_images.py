"""Decode photographs and their masks: the paths of an item become tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from monai.transforms import Transform
from torch import Tensor

from monai_ext.raster.images import ImageFileError, checked_size, decode_image, decode_mask

__all__ = ["DecodeImaged"]


class DecodeImaged(Transform):
    """From the paths of an item to its pixels.

    {"id", "image": path, "label": path} becomes {"id": str, "image": uint8 (3, H, W), "label": uint8 (1, H, W) of
    0/1, "original_size": int64 (2,) = height and width of the file}; an item without label gives none, and "id"
    defaults to the image's name without extension. Other keys of the item are dropped.

    Args:
        spatial_size: (H, W) for images and labels; None keeps the size of the files.
        draft: see `read_image`.
        label_spatial_size: "native" keeps labels at the size of their file, to evaluate there; None resizes them
            as the images.
        keep_paths: also return the files' paths as "image_path" and "label_path", for tables and overlays.

    Raises (when called):
        ImageFileError: a file cannot be read, or image and mask disagree in size.
    """

    def __init__(
        self,
        spatial_size: Sequence[int] | None = None,
        draft: bool = False,
        *,
        label_spatial_size: Literal["native"] | None = None,
        keep_paths: bool = False,
    ):
        if label_spatial_size not in (None, "native"):
            raise ValueError(f"label_spatial_size is {label_spatial_size!r}: choose 'native' or None.")
        self.spatial_size = checked_size(spatial_size, draft=draft)
        self.draft = draft
        self.label_spatial_size = label_spatial_size
        self.keep_paths = keep_paths

    def __call__(self, data: Mapping) -> dict[str, str | Tensor]:
        image, size = decode_image(data["image"], self.spatial_size, draft=self.draft)
        item: dict[str, str | Tensor] = {"id": str(data.get("id", Path(data["image"]).stem)), "image": image}
        if data.get("label") is not None:
            label_size = None if self.label_spatial_size == "native" else self.spatial_size
            item["label"], mask_size = decode_mask(data["label"], label_size)
            if mask_size != size:
                raise ImageFileError(
                    f"image {data['image']} is {size[0]} x {size[1]} pixels (height x width), but its mask "
                    f"{data['label']} is {mask_size[0]} x {mask_size[1]}: pair the right files or export the mask anew."
                )
        item["original_size"] = torch.tensor(size)
        if self.keep_paths:
            item |= {f"{key}_path": str(data[key]) for key in ("image", "label") if data.get(key) is not None}
        return item

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(spatial_size={self.spatial_size}, draft={self.draft}, "
            f"label_spatial_size={self.label_spatial_size!r}, keep_paths={self.keep_paths})"
        )
