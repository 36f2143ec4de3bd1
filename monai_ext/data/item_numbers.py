"""Images and masks in a few numbers, taken while they are decoded, and those of a whole set as one table."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
from torch import Tensor

from monai_ext.data.raters.structures import column_names
from monai_ext.formulas.grids import spacing_of

__all__ = [
    "DIRECTIONS",
    "IMAGE_KEY",
    "MASKS_KEY",
    "ImageNumbers",
    "MaskNumbers",
    "SetNumbers",
    "contrast",
    "image_numbers",
    "look_at",
    "mask_numbers",
    "set_numbers",
    "value_bits",
    "values_of_bits",
    "with_numbers",
]

DIRECTIONS = "LRPAIS"  # left, right, posterior, anterior, inferior, superior
IMAGE_KEY, MASKS_KEY = "look_image", "look_masks"
MOST_BITS = 51


class ImageNumbers(NamedTuple):
    """An image in numbers."""

    lowest: float
    highest: float
    finite: float  # share of its values
    height: float
    width: float
    channels: float
    orientation: float  # EXIF
    further_pages: float
    checksum: float
    depth: float = 1.0
    row_step: float = np.nan  # millimetres between rows of a volume
    column_step: float = np.nan
    slice_step: float = np.nan
    directions: float = np.nan  # of its axes in space: three digits, places in `DIRECTIONS`


class MaskNumbers(NamedTuple):
    """A mask in numbers; NaN where a rater is missing, or where there is nothing to compare."""

    share: float = np.nan  # of the pixels that are foreground, in the file
    border: float = np.nan  # of the border's pixels
    sides: float = np.nan  # of the image that it touches, 0 ... 4
    grey: float = 0.0  # of the pixels that are neither black nor white in the file
    vanished: float = 0.0  # 1: nothing is left of it at the size of the network
    orientation: float = 1.0  # EXIF
    upright: float = np.nan  # contrast of inside and outside as the mask is read
    stored: float = np.nan  # and where it was drawn on the pixels as they are stored
    reordered: float = 0.0  # 1: its voxels were brought into the order of the image
    beside: float = np.nan  # voxels between it and its image, by their affines
    overlap: float = np.nan  # largest Dice with another rater
    checksum: float = np.nan
    outside: float = 0.0  # values in its file that are no structure's, see `value_bits`


def image_numbers(
    pixels: np.ndarray,
    size: Sequence[int],
    *,
    finite: float = 1.0,
    orientation: int = 1,
    further_pages: int = 0,
    affine: np.ndarray | None = None,
) -> ImageNumbers:
    """The numbers of an image (C, *S) that has the `size` *S, (H, W) or (H, W, D), in its file.

    Args:
        affine: (4, 4) of a volume, from voxels to millimetres.
    """
    height, width, depth = (*size, 1)[:3]
    place = (np.nan,) * 4
    if affine is not None:
        letters = nib.aff2axcodes(affine)
        number = float("".join(str(DIRECTIONS.index(letter)) for letter in letters)) if all(letters) else np.nan
        place = (*spacing_of(affine), number)
    return ImageNumbers(
        float(pixels.min()), float(pixels.max()), finite, height, width, len(pixels), orientation, further_pages,
        _checksum(pixels, pixels.shape), depth, *place,
    )  # fmt: skip


def mask_numbers(mask: np.ndarray, **others: float) -> MaskNumbers:
    """The numbers of a mask (H, W) or (H, W, D) of 0 and 1; `others` are those that its pixels do not show."""
    edges = [mask[0], mask[-1], mask[:, 0], mask[:, -1]]
    touched = [int(np.count_nonzero(edge)) for edge in edges]
    return MaskNumbers(
        **{
            "share": np.count_nonzero(mask) / mask.size,
            "border": sum(touched) / sum(edge.size for edge in edges),
            "sides": sum(map(bool, touched)),
            "checksum": _checksum(np.packbits(mask != 0), mask.shape),
            **others,
        }
    )


def value_bits(values: Sequence[int]) -> float:
    """Values as bits of a number that float64 holds exactly: bit v for 1 ... 51, bit 0 for all others."""
    return float(sum({1 << value if 1 <= value <= MOST_BITS else 1 for value in values}))


def values_of_bits(bits: int) -> list[str]:
    """The values of `value_bits` in words.

    >>> values_of_bits(int(value_bits([4, 255])) | int(value_bits([7])))
    ['4', '7', 'others']
    """
    found = [str(value) for value in range(1, MOST_BITS + 1) if bits >> value & 1]
    return found + ["others"] * (bits & 1)


def _checksum(values: np.ndarray, shape: Sequence[int]) -> float:
    """48 bits, which float64 holds exactly: 32 would make two of 100,000 slices equal by chance more often than not."""
    digest = hashlib.sha256(repr(tuple(shape)).encode() + np.ascontiguousarray(values).tobytes()).digest()
    return float(int.from_bytes(digest[:6], "big"))


def contrast(image: np.ndarray, mask: np.ndarray) -> float:
    """Difference of the mean grey inside and outside of a mask, in standard deviations of the image."""
    grey = image.reshape(-1, *image.shape[-2:]).mean(0, dtype=np.float64)
    inside = mask.astype(bool)
    if not inside.any() or inside.all() or not grey.std():
        return np.nan
    return float(abs(grey[inside].mean() - grey[~inside].mean()) / grey.std())


@dataclass(frozen=True)
class SetNumbers:
    """The numbers of all images and masks of a set.

    Attributes:
        ids: N names.
        images: (N, 14), see `ImageNumbers`; NaN where there is none.
        masks: (N, R, 13), see `MaskNumbers`.
        columns: whose or which each of the R masks is, see `column_names`; empty where there is one of nobody.
    """

    ids: Sequence[str]
    images: np.ndarray
    masks: np.ndarray
    columns: Sequence[str] = ()

    def image(self, name: str) -> np.ndarray:
        """A column of `ImageNumbers`, (N,)."""
        return self.images[:, ImageNumbers._fields.index(name)]

    def mask(self, name: str) -> np.ndarray:
        """A column of `MaskNumbers`, (N, R)."""
        return self.masks[:, :, MaskNumbers._fields.index(name)]


def with_numbers(image: ImageNumbers, masks: Sequence[MaskNumbers]) -> dict[str, Tensor]:
    """The numbers of an item as tensors beside its own."""
    return {
        IMAGE_KEY: torch.tensor(image, dtype=torch.float64),
        MASKS_KEY: torch.tensor(masks, dtype=torch.float64).reshape(len(masks), len(MaskNumbers._fields)),
    }


def look_at(
    items: Sequence[Mapping],
    transform: Any,
    *,
    on_error: Callable[[Mapping, Exception], None] | None = None,
    num_workers: int | None = None,
) -> SetNumbers:
    """The numbers of all items, each decoded and let go again.

    Args:
        items: that `transform` takes.
        transform: with a method `with_look`, see `DecodeImaged`.
        on_error: called for an item that cannot be decoded, which is left out; None: the error is raised.
        num_workers: threads; None: one for each core, at most 16.
    """

    def numbers(item: Mapping) -> tuple[Mapping, dict | Exception]:
        try:
            decoded = transform.with_look(item)
        except (ValueError, OSError) as error:
            if on_error is None:
                raise
            return item, error
        return item, {key: decoded[key] for key in ("id", IMAGE_KEY, MASKS_KEY)}

    found = []
    with ThreadPoolExecutor(num_workers or min(16, os.cpu_count() or 1), thread_name_prefix="look") as pool:
        for item, result in pool.map(numbers, items):
            if isinstance(result, Exception):
                if on_error is not None:
                    on_error(item, result)
            else:
                found.append(result)
    return set_numbers(
        [each["id"] for each in found],
        [each[IMAGE_KEY] for each in found],
        [each[MASKS_KEY] for each in found],
        column_names(items[0]) if items else (),
    )


def set_numbers(
    ids: Sequence[str], images: Sequence[Tensor], masks: Sequence[Tensor], columns: Sequence[str] = ()
) -> SetNumbers:
    """The numbers of N items as one table; items without masks have rows of NaN."""
    width = max((len(each) for each in masks), default=0)
    table = np.full((len(ids), width, len(MaskNumbers._fields)), np.nan)
    for row, each in zip(table, masks, strict=True):
        row[: len(each)] = each.numpy()
    stacked = np.array([each.numpy() for each in images]).reshape(len(ids), len(ImageNumbers._fields))
    return SetNumbers(list(ids), stacked, table, tuple(columns) if len(columns) == width else ())
