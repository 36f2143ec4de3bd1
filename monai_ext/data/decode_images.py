"""Decode photographs and their masks: the paths of an item become tensors."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monai.transforms import Transform
from PIL import Image

from monai_ext.data.item_numbers import MaskNumbers, contrast, image_numbers, mask_numbers, value_bits, with_numbers
from monai_ext.raster.images import TURNS, ImageFile, ImageFileError, checked_size, decode_image
from monai_ext.raster.labels import checked_labels, structures_of_labels, values_outside
from monai_ext.raster.masks import MaskFile, decode_masks, grey_values_in

__all__ = ["DecodeImaged"]

DECODED_KEYS = frozenset({"id", "image", "label", "label_values", "structures"})

_logger = logging.getLogger(__name__)


class DecodeImaged(Transform):
    """From the paths of an item to its pixels.

    {"id", "image": path, "label": path} becomes {"id": str, "image": uint8 (3, H, W), "label": uint8 (1, H, W) of
    0/1, "original_size": int64 (2,) = height and width of the file}; an item without label gives none, and "id"
    defaults to the image's name without extension. "label_values" are the `labels` of `read_mask`; of K structures the
    label is (K, H, W). Other keys of the item stay as they are.

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

    def __call__(self, data: Mapping) -> dict[str, Any]:
        item, image, _ = self._decoded(data)
        if image.further_pages:
            _logger.warning("%s has %d further pages or frames, which are not read", data["image"], image.further_pages)
        item |= {key: value for key, value in data.items() if key not in DECODED_KEYS}
        if self.keep_paths:
            item |= {f"{key}_path": str(data[key]) for key in ("image", "label") if data.get(key) is not None}
        return item

    def with_look(self, data: Mapping) -> dict[str, Any]:
        """The decoded item with its numbers, see `monai_ext.data.item_numbers`, without keys that it does not know."""
        item, image, masks = self._decoded(data)
        pixels = image.pixels.numpy()
        numbers = image_numbers(pixels, image.size, orientation=image.orientation, further_pages=image.further_pages)
        found = [self._mask_numbers(pixels, image, mask) for mask in masks]
        if found and structures_of_labels(data.get("label_values")):
            others = values_outside(grey_values_in(data["label"]), data["label_values"])
            found[0] = found[0]._replace(outside=value_bits(others))
        return item | with_numbers(numbers, found)

    def _mask_numbers(self, pixels: np.ndarray, image: ImageFile, mask: MaskFile) -> MaskNumbers:
        values = mask.mask[0].numpy()
        others = {"grey": mask.grey, "share": mask.share, "vanished": float(mask.share > 0 and not values.any())}
        others["orientation"] = mask.orientation
        if image.orientation in TURNS and mask.orientation == 1 and values.shape == pixels.shape[1:]:
            turned = Image.fromarray(values).transpose(TURNS[image.orientation]).resize(values.shape[::-1])
            others |= {"upright": contrast(pixels, values), "stored": contrast(pixels, np.asarray(turned))}
        return mask_numbers(values, **others)

    def _decoded(self, data: Mapping) -> tuple[dict[str, Any], ImageFile, list[MaskFile]]:
        image = decode_image(data["image"], self.spatial_size, draft=self.draft)
        masks: list[MaskFile] = []
        item: dict[str, Any] = {"id": str(data.get("id", Path(data["image"]).stem)), "image": image.pixels}
        if data.get("label") is not None:
            label_size = None if self.label_spatial_size == "native" else self.spatial_size
            masks = decode_masks(data["label"], label_size, checked_labels(data.get("label_values")))
            item["label"] = torch.cat([mask.mask for mask in masks])
            if masks[0].size != image.size:
                raise ImageFileError(_two_sizes(data, image, masks[0]))
        item["original_size"] = torch.tensor(image.size)
        return item, image, masks

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(spatial_size={self.spatial_size}, draft={self.draft}, "
            f"label_spatial_size={self.label_spatial_size!r}, keep_paths={self.keep_paths})"
        )


def _two_sizes(data: Mapping, image: ImageFile, mask: MaskFile) -> str:
    """The error of an image and a mask that disagree in size."""
    turned = image.size[::-1] == mask.size and image.orientation >= 5 and mask.orientation < 5
    return (
        f"image {data['image']} is {image.size[0]} x {image.size[1]} pixels (height x width), but its mask "
        f"{data['label']} is {mask.size[0]} x {mask.size[1]}: "
    ) + (
        "the photograph is turned by its EXIF orientation, and the mask is not; turn the mask as well."
        if turned
        else "pair the right files or export the mask anew."
    )
