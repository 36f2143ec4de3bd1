"""Masks of raters: read as 0 and 1 in the order of their image's voxels, and in numbers."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence

import numpy as np

from monai_ext.data.item_numbers import MaskNumbers, mask_numbers, value_bits
from monai_ext.data.raters.geometry import Geometry, Reading, geometry_of, reading_in
from monai_ext.data.raters.structures import structure_count
from monai_ext.raster.images import ImageFileError
from monai_ext.raster.labels import (
    Label,
    Values,
    checked_label,
    has_label,
    in_words,
    structures_of_labels,
    values_outside,
)
from monai_ext.raster.nifti import advice, read_nifti

__all__ = [
    "binary_mask",
    "masks_in_numbers",
    "read_in_order",
    "read_rater_mask",
    "reading_of",
    "with_values_outside",
]

MASK_TOLERANCE = 1e-3  # files with a scale factor hold 0.99999994 for 1


def read_rater_mask(path: str | os.PathLike, *, slice_index: int | None = None, label: Label = None) -> np.ndarray:
    """The mask of one rater, uint8 (H, W) of 0 and 1; an empty one is allowed. See `binary_mask`.

    Args:
        slice_index: see `read_nifti`.
        label: see `binary_mask`.

    Raises:
        ImageFileError: the file cannot be read, holds other values, or is a volume without `slice_index`.
    """
    values = read_nifti(path, slice_index=slice_index)
    if values.ndim != 2:
        raise ImageFileError(
            f"mask {path} has the shape {values.shape}: it should have the two axes of its image; "
            f"{advice(values.shape)}."
        )
    return binary_mask(values, path, label=checked_label(label))


def reading_of(path: str | os.PathLike | None, reference: Geometry | None) -> Reading:
    """How a mask is read in the order of `reference`; as it is without either."""
    return Reading() if path is None or reference is None else reading_in(reference, geometry_of(path))


def read_in_order(
    path: str | os.PathLike, reading: Reading, slice_index: int | None, label: Values | str | None, spatial_dims: int
) -> np.ndarray:
    """`read_rater_mask` in another order of voxels, or of volumes, which may have one slice and two axes."""
    if reading.axes is None and spatial_dims == 2:
        return read_rater_mask(path, slice_index=slice_index, label=label)
    values = reading(read_nifti(path))
    if spatial_dims == 2 and values.ndim == 3 and slice_index is not None:
        values = values[:, :, slice_index]
    if values.ndim != 2 and values.ndim != spatial_dims:
        raise ImageFileError(f"mask {path} has the shape {values.shape}: {advice(values.shape)}.")
    return binary_mask(values, path, label=label)


def masks_in_numbers(
    item: Mapping, masks: Sequence[np.ndarray | None], readings: Sequence[Reading], structures: int
) -> list[MaskNumbers]:
    """The numbers of masks, as they were read and as the label of `item`, see `monai_ext.data.item_numbers`.

    Args:
        masks: of all raters, structure by structure; None where one is missing.
        readings: how each was read.
        structures: of each rater.
    """
    overlaps: dict[int, float] = {}
    for structure in range(structures):
        of_raters = ((row, masks[row]) for row in range(structure, len(masks), structures))
        marked = {row: mask for row, mask in of_raters if mask is not None and mask.any()}
        if len(marked) > 1:
            overlaps |= dict(zip(marked, _largest_overlaps(list(marked.values())), strict=True))
    numbers = []
    for row, (mask, reading) in enumerate(zip(masks, readings, strict=True)):
        if mask is None:
            numbers.append(MaskNumbers())
            continue
        numbers.append(
            mask_numbers(
                mask,
                vanished=float(mask.any() and not item["label"][row].any()),
                reordered=float(reading.axes is not None),
                beside=np.nan if reading.beside is None else reading.beside,
                overlap=float(overlaps.get(row, np.nan)),
            )
        )
    return numbers


def with_values_outside(numbers: Sequence[MaskNumbers], data: Mapping) -> list[MaskNumbers]:
    """The numbers of masks whose files hold several structures, with the values that are none of these."""
    count, labels = structure_count(data), data.get("label_values")
    if not structures_of_labels(labels):
        return list(numbers)
    found = list(numbers)
    for place in range(0, len(found), count):
        if (path := data["label"][place]) is not None:
            values = np.unique(read_nifti(path)).round().astype(int).tolist()
            found[place] = found[place]._replace(outside=value_bits(values_outside(values, labels)))
    return found


def _largest_overlaps(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Dice of each mask with the one that is most alike."""
    sizes = [np.count_nonzero(mask) for mask in masks]
    dice = np.full((len(masks), len(masks)), -1.0)
    for first, second in itertools.combinations(range(len(masks)), 2):
        shared = np.count_nonzero(masks[first] & masks[second])
        dice[first, second] = dice[second, first] = 2 * shared / (sizes[first] + sizes[second])
    return dice.max(1)


def binary_mask(values: np.ndarray, path: str | os.PathLike, *, label: Values | str | None = None) -> np.ndarray:
    """uint8 0/1 of the values of a rater's mask, of any number of axes.

    Values are 0 and 1, or 0 and white (255; 65535 in 16 bits), within 0.001. Anything else (probabilities, several
    labels, NaN) is refused, since no threshold for it is agreed on, unless `label` names the values of the foreground.

    Raises:
        ImageFileError: there are other values; or the label is no number.
    """
    if label is not None:
        if isinstance(label, str) or any(isinstance(value, tuple) for value in label):
            raise ImageFileError(f"mask {path} holds numbers, and the label {in_words(label)} is none.")
        return has_label(values, label).astype(np.uint8)
    if values.dtype == bool:
        return values.astype(np.uint8)
    highest = values.max(initial=0)
    white = (65535 if values.dtype == np.uint16 and highest > 255 else 255) if highest > 1.5 else 1
    foreground = np.abs(values - np.float32(white)) <= MASK_TOLERANCE
    wrong = ~(foreground | (np.abs(values) <= MASK_TOLERANCE))
    if wrong.any():
        raise ImageFileError(
            f"mask {path} holds the value {values[wrong][0]:g}: a mask has 0 and 1, or 0 and 255, alone; choose one or "
            "several of its values by labels, or name several structures by them (labels={disc: [1, 2], cup: [2]}); "
            "threshold a probability map."
        )
    return foreground.astype(np.uint8)
