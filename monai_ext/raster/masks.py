"""Masks read from image files: what is foreground by one rule, or by the values that are named as its labels.

A mask that could mean several things (several structures, content in its transparency) raises `ImageFileError`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from monai_ext.raster.images import (
    SIXTEEN_TO_EIGHT,
    TURNS,
    ImageFileError,
    checked_size,
    float_range,
    further_pages,
    grey_values,
    orientation_of,
    reading,
    upright_size,
)
from monai_ext.raster.labels import ALPHA, Labels, Values, checked_labels, has_label, in_words

__all__ = ["MaskFile", "decode_masks", "grey_values_in", "read_mask"]

FOREGROUND_ABOVE = 128  # the ISIC challenge's rule, on the scale 0 ... 255
BLACK_UP_TO, WHITE_FROM = 16, 239  # grey between them is that of soft edges, or of a structure
FLAT = 8  # levels between neighbours inside a structure, blurred by JPEG
APART = 24  # levels between two structures
PEAK = 4  # levels around its own that hold most of a structure, unlike a slow gradient
MOST_OF_IT = 0.8
SMALLEST = 9  # pixels inside a structure; at least this share of the mask
SMALLEST_SHARE = 2e-5
DARKEST = 64  # a mask whose darkest structure is lighter than this has no background
COLOURED = 32  # levels between the channels of a colour
MOST_HIDDEN = 0.01  # of the foreground, under full transparency
PACK = np.array([1, 1 << 8, 1 << 16])  # three channels in one number
MOST_STRUCTURES = 32
LOOKED_AT = 10**6  # pixels of a larger mask, evenly spread
SHOWN = 6


class MaskFile(NamedTuple):
    """A mask and how it lay in its file."""

    mask: Tensor  # uint8 (1, H, W) of 0 and 1
    size: tuple[int, int]  # upright (H, W) in the file
    orientation: int  # EXIF, 1 ... 8
    grey: float  # share of its pixels that are neither black nor white
    share: float  # of its pixels that are foreground, in the file


def read_mask(path: str | os.PathLike, *, spatial_size: Sequence[int] | None = None, labels: Labels = None) -> Tensor:
    """The binary mask in a file, uint8 (1, H, W) of 0 and 1, or (K, H, W) of K structures, upright by its orientation.

    Values that nowhere exceed 1 are a 0/1 mask (above 0.5 for floats). Otherwise foreground is above 128 on the scale
    0 ... 255 (ISIC's rule; 128 itself is background), above 128 x 257 for 16 bits: masks of 0/255, of 0/65535 and
    blurred by JPEG all work; 16-bit values that nowhere exceed 255 count as 8 bits. Colours (palette, RGB) count by
    luminance.

    Refused are masks that are not empty and have nothing above that, such as labels 0 ... 5; masks of several
    structures, each of a grey value or a colour of its own, or without a dark background; and masks whose
    transparency differs from their colours.

    Args:
        spatial_size: (H, W) to resize to: antialiased bilinear like the photograph, then foreground where the share is
            at least half. (Nearest neighbour would shift a mask halved in size by a quarter of a pixel, which alone
            costs a small lesion a percent of Dice.)
        labels: what is foreground instead, everything else being background: a value of the file (of a palette, the
            index), several of them, a colour [red, green, blue] or several, where the mask is coloured; or "alpha",
            where it is opaque. 0 turns a mask of black structures on white. A mapping has one of these for each
            structure by its name.

    Raises:
        ImageFileError: the file cannot be read, or its values are no mask.
        ValueError: `spatial_size` is not two positive integers, or `labels` none of the above.
    """
    return torch.cat([file.mask for file in decode_masks(path, checked_size(spatial_size), checked_labels(labels))])


def decode_masks(
    path: str | os.PathLike,
    spatial_size: tuple[int, int] | None,
    labels: Values | str | dict[str, Values | str] | None = None,
) -> list[MaskFile]:
    """The masks in a file, one for each structure; see `read_mask`, for arguments that are checked already."""
    wanted = list(labels.values()) if isinstance(labels, dict) else [labels]
    return [_decoded(path, spatial_size, label) for label in wanted]


def _decoded(path: str | os.PathLike, spatial_size: tuple[int, int] | None, label: Values | str | None) -> MaskFile:
    with reading(path) as picture:
        if pages := further_pages(picture):
            raise ImageFileError(
                f"mask {path} has {pages + 1} pages or frames: save the one that is meant in a file of its own."
            )
        orientation = orientation_of(picture)
        size = upright_size(picture, orientation)
        mask, grey = _foreground(picture, path) if label is None else (_labelled(picture, path, label), 0.0)
    mask = np.ascontiguousarray(mask).view(np.uint8)
    share = np.count_nonzero(mask) / mask.size
    if orientation in TURNS:
        mask = np.array(Image.fromarray(mask).transpose(TURNS[orientation]))
    if spatial_size is not None and spatial_size != size:
        resized = Image.fromarray(mask * 255).resize(spatial_size[::-1], Image.Resampling.BILINEAR)
        mask = (np.asarray(resized) > 127).view(np.uint8)
    return MaskFile(torch.from_numpy(mask)[None], size, orientation, grey, share)  # a copy of its own on all paths


def _foreground(picture: Image.Image, path: str | os.PathLike) -> tuple[NDArray[np.bool_], float]:
    """The mask by the rule in `read_mask`, and the share of grey pixels."""
    alpha = None
    if picture.has_transparency_data and picture.mode[0] not in "IF":
        picture = picture.convert("RGBA")
        alpha = np.asarray(picture.getchannel("A"))
        picture = picture.convert("RGB")
    elif picture.mode in ("P", "CMYK"):
        picture = picture.convert("RGB")  # a palette's index means nothing, its colour does
    elif picture.mode == "1":
        picture = picture.convert("L")
    colours = np.asarray(picture) if picture.mode == "RGB" else None
    values = grey_values(picture.convert("L") if picture.mode not in ("L", "F") and picture.mode[0] != "I" else picture)
    mask, levels = _above(values, path)
    if alpha is not None and (alpha != alpha.flat[0]).any():
        _check_alpha(values, mask, alpha, path)
    return mask, _check_structures(levels, colours, path)


def _above(values: NDArray, path: str | os.PathLike) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """Where values are foreground, and the values on the scale 0 ... 255."""
    highest = values.max()
    if values.dtype.kind == "f":
        unit = float_range(values, path) == 1
        above, levels = 0.5 if unit else FOREGROUND_ABOVE, (values * (255 if unit else 1)).astype(np.uint8)
    elif values.min() < 0 or highest > 65535:
        raise ImageFileError(f"mask {path} holds values from {values.min()} to {highest}: save it as 0 and 255.")
    elif highest <= 1:
        return values > 0, (values > 0).view(np.uint8) * np.uint8(255)
    elif values.dtype == np.uint8 or highest <= 255:
        above, levels = FOREGROUND_ABOVE, values.astype(np.uint8)
    else:
        above, levels = FOREGROUND_ABOVE * SIXTEEN_TO_EIGHT, (values // SIXTEEN_TO_EIGHT).astype(np.uint8)
    if 0 < highest <= above and highest > 1:
        raise ImageFileError(
            f"mask {path} has values up to {highest:g} and none above {above}: it is neither 0/1 nor 0/255; save the "
            f"foreground as 255, or name its value by labels (it holds {_listed(np.unique(values))})."
        )
    return values > above, levels


def _check_alpha(values: NDArray, mask: NDArray, alpha: NDArray, path: str | os.PathLike) -> None:
    """Refuse a mask that transparency draws otherwise than its colours do."""
    opaque = alpha > FOREGROUND_ABOVE
    if (values == values.flat[0]).all():
        raise ImageFileError(
            f"mask {path} has one colour alone, and its content in its transparency ({opaque.mean():.0%} are opaque): "
            "choose what is opaque by labels='alpha', or save it as 0 and 255 without transparency."
        )
    hidden = np.count_nonzero(mask & ~opaque) / (int(np.count_nonzero(mask)) or 1)
    if hidden > MOST_HIDDEN:
        raise ImageFileError(
            f"mask {path} can be read in two ways, {hidden:.0%} of its foreground being transparent: choose what is "
            "opaque by labels='alpha', or save it as 0 and 255 without transparency."
        )


def _check_structures(levels: NDArray[np.uint8], colours: NDArray[np.uint8] | None, path: str | os.PathLike) -> float:
    """The share of grey pixels, if there are but one structure and its background.

    Raises:
        ImageFileError: there are several, or no dark background.
    """
    counts = np.bincount(levels.ravel(), minlength=256)
    grey = float(counts[BLACK_UP_TO + 1 : WHITE_FROM].sum() / levels.size)
    coloured = colours is not None and _is_coloured(colours)
    if not coloured and grey * levels.size < SMALLEST and counts[: BLACK_UP_TO + 1].any():
        return grey
    found = _plateaus(colours if coloured and colours is not None else levels[..., None])
    sides = [float(np.dot(level, (0.299, 0.587, 0.114)) if coloured else level[0]) for level, _ in found]
    if len(found) > 2 or len(found) == 2 and (
        min(sides) > DARKEST or (min(sides) > FOREGROUND_ABOVE) == (max(sides) > FOREGROUND_ABOVE)
    ):  # fmt: skip
        kinds = "colours" if coloured else "grey values"
        listed = ", ".join(f"{list(level) if coloured else level[0]} ({share:.1%})" for level, share in found[:SHOWN])
        raise ImageFileError(
            f"mask {path} holds several structures, or no dark background: it has the {kinds} {listed}"
            f"{' ...' if len(found) > SHOWN else ''}; choose the foreground by labels, such as labels="
            f"{[int(part) for part in found[-1][0]] if coloured else int(found[-1][0][0])}, or save it as 0 and 255."
        )
    return grey


def _is_coloured(colours: NDArray[np.uint8]) -> bool:
    step = math.isqrt(colours[..., 0].size // LOOKED_AT) + 1
    red, green, blue = np.moveaxis(colours[::step, ::step].astype(np.int16), -1, 0)
    apart = np.maximum(np.abs(red - green), np.abs(green - blue)) >= COLOURED
    return bool(np.count_nonzero(apart) * step**2 >= SMALLEST)


def _plateaus(pixels: NDArray[np.uint8]) -> list[tuple[tuple[int, ...], float]]:
    """Colour and share of each of the areas of one colour in (H, W, C), in their order.

    Soft edges and slow gradients are none: there, neighbours differ, or all values are equally frequent.
    """
    step = math.isqrt(pixels.shape[0] * pixels.shape[1] // LOOKED_AT) + 1
    height, width = (side - 2 for side in pixels.shape[:2])
    shifted = {
        (down, right): pixels[down : down + height : step, right : right + width : step].astype(np.int16)
        for down, right in ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
    }
    centre = shifted.pop((1, 1))
    flat = np.logical_and.reduce([(np.abs(beside - centre) <= FLAT).all(-1) for beside in shifted.values()])
    codes, counts = np.unique(centre[flat] @ PACK[: pixels.shape[2]], return_counts=True)
    inside = np.stack([codes >> shift & 255 for shift in (0, 8, 16)[: pixels.shape[2]]], axis=-1)
    least = max(SMALLEST, SMALLEST_SHARE * flat.size * step**2) / step**2
    found: list[tuple[tuple[int, ...], float]] = []
    left = counts.copy()
    while left.sum() >= least and len(found) < MOST_STRUCTURES:
        peak = inside[left.argmax()]
        distance = np.abs(inside - peak).max(1)
        own = left[distance <= APART].sum()
        near, around = (counts[distance <= reach].sum() for reach in (PEAK, APART // 2))
        extreme = (peak <= BLACK_UP_TO).all() or (peak >= WHITE_FROM).all()
        if own >= least and (extreme or near >= MOST_OF_IT * around):
            found.append((tuple(int(part) for part in peak), float(own / flat.size)))
        left[distance <= APART] = 0
    return sorted(found)


def _labelled(picture: Image.Image, path: str | os.PathLike, label: Values | str) -> NDArray[np.bool_]:
    """Where the mask has the label."""
    if label == ALPHA:
        if not picture.has_transparency_data:
            raise ImageFileError(f"mask {path} has no transparency to read by labels='alpha'.")
        return np.asarray(picture.convert("RGBA").getchannel("A")) > FOREGROUND_ABOVE
    values: Values = label if isinstance(label, tuple) else ()
    if picture.mode not in ("1", "L", "P", "F") and picture.mode[0] != "I":
        pixels = np.asarray(picture.convert("RGB"))
        if (pixels == pixels[..., :1]).all():
            grey = pixels[..., 0]
        else:
            wanted = [values] if all(isinstance(value, int) for value in values) else list(values)
            if any(not isinstance(colour, tuple) or len(colour) != 3 for colour in wanted):
                raise ImageFileError(
                    f"mask {path} is coloured, and the label {in_words(label)} is no colour: give [red, green, blue]."
                )
            return np.logical_or.reduce([(pixels == colour).all(-1) for colour in wanted])
    elif picture.mode == "1":
        grey = np.asarray(picture).astype(np.uint8) * np.uint8(255 if 255 in values else 1)
    else:
        grey = grey_values(picture)
    if any(isinstance(value, tuple) for value in values):
        raise ImageFileError(
            f"mask {path} is grey, and the label {in_words(label)} a colour: give a value of the mask."
        )
    if values in ((0,), (255,)) and grey.dtype == np.uint8 and grey.max() > FOREGROUND_ABOVE:
        try:  # black and white with soft edges
            _check_structures(grey, None, path)
        except ImageFileError:
            return has_label(grey, values)
        return (grey > FOREGROUND_ABOVE) == (values == (255,))
    return has_label(grey, values)


def _listed(values: NDArray) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:SHOWN])
    return shown + (" ..." if len(values) > SHOWN else "")


def grey_values_in(path: str | os.PathLike) -> list[int]:
    """The values of the pixels of a mask, ascending, of a palette the indices; none of one in colours or fractions.

    Raises:
        ImageFileError: the file cannot be read.
    """
    with reading(path) as picture:
        if picture.mode in ("1", "L", "P") or picture.mode[0] == "I":
            return np.unique(np.asarray(picture)).astype(int).tolist()
        if picture.mode in ("RGB", "RGBA"):
            pixels = np.asarray(picture.convert("RGB"))
            return np.unique(pixels[..., 0]).tolist() if (pixels == pixels[..., :1]).all() else []
    return []
