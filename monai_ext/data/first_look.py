"""A first look at a data set as a whole, before it is trained on, evaluated or scored.

The numbers of all images and masks show what no single file can: masks that are all inverted or empty, images that
occur twice, masks without a geometry. What cannot be meant is refused; what is doubtful is a warning with numbers.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from monai.data import Dataset

from monai_ext.data.item_numbers import DIRECTIONS, ImageNumbers, MaskNumbers, SetNumbers, look_at, values_of_bits
from monai_ext.runtime.errors import some_of

__all__ = ["DataSetError", "FirstLook", "LookedDataset", "review", "review_masks", "shared_images"]

# Chosen by hand; what was measured shows how far from them usual data lie.
ENOUGH = 5  # images from which on what all have in common is no coincidence
SURROUNDING = 0.9  # of the border, half of the image: looks inverted (600 ISIC masks: at most 0.29 of the border)
MOST = 0.9  # of the masks, for all of them: a set may have some empty ones
FULL = 0.99  # of a mask: a frame of a pixel may be left (600 ISIC masks: at most 0.88)
DARK = 0.1  # of the range of 8 bits: 12 bits of data in 16 bits are 1/16
SOFT = 0.02  # of a mask's pixels are grey (150 ISIC masks: 0.002 saved as JPEG of quality 75, median 0.04 blurred by 5)
FITS_BETTER = 0.1  # contrast of lesion and surround (200 ISIC masks turned by 180 degrees: 88 % lose as much, 4 % gain)

_logger = logging.getLogger(__name__)


class DataSetError(ValueError):
    """A data set that cannot be meant as it is; the message names what all of it has in common, and the way out."""


@dataclass
class FirstLook:
    """What was found: `facts` in numbers, what is `doubtful`, and what is `refused`, in sentences."""

    facts: list[str] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def log(self) -> None:
        """Log facts for information and what is doubtful as warnings.

        Raises:
            DataSetError: something is refused.
        """
        for line in self.facts:
            _logger.info("%s", line)
        for line in self.doubtful:
            _logger.warning("%s", line)
        if self.refused:
            raise DataSetError(" ".join(self.refused))


class LookedDataset(Dataset):
    """MONAI's `Dataset` after a first look at all its items, which logs what was found or refuses the set.

    Args:
        data: items.
        transform: a decoder with a method `with_look`, or a `Compose` that begins with one.
    """

    def __init__(self, data: Sequence[Mapping], transform: Any):
        super().__init__(data, transform)
        decoder = transform.transforms[0] if hasattr(transform, "transforms") else transform
        review(look_at(data, decoder), labelled=any(item.get("label_values") is not None for item in data)).log()


def review_masks(
    ids: Sequence[str], masks: Sequence[Sequence[MaskNumbers]], columns: Sequence[str], *, labelled: bool = False
) -> FirstLook:
    """`review` of the masks of N cases alone, without their images; `columns` names the masks of a case."""
    images = np.full((len(ids), len(ImageNumbers._fields)), np.nan)
    table = np.array(masks).reshape(len(ids), -1, len(MaskNumbers._fields))
    return review(SetNumbers(list(ids), images, table, columns), labelled=labelled)


def review(numbers: SetNumbers, *, labelled: bool = False) -> FirstLook:
    """What the numbers of a whole set show.

    Args:
        labelled: what is foreground was chosen by `labels`, so that masks that look inverted are no mistake.
    """
    look = FirstLook()
    if len(numbers.ids) and not np.isnan(numbers.images).all():
        _review_images(numbers, look)
    if numbers.masks.shape[1]:
        _review_masks(numbers, look, labelled=labelled)
        _review_geometry(numbers, look)
    return look


def shared_images(parts: Mapping[str, SetNumbers]) -> list[str]:
    """Sentences on images that stand in several parts of a data set, pixel for pixel."""
    where: dict[float, list[tuple[str, str]]] = defaultdict(list)
    for part, numbers in parts.items():
        constant = numbers.image("lowest") == numbers.image("highest")
        for name, checksum in zip(np.array(numbers.ids)[~constant], numbers.image("checksum")[~constant], strict=True):
            where[checksum].append((part, name))
    several = [places for places in where.values() if len({part for part, _ in places}) > 1]
    if not several:
        return []
    listed = some_of([" = ".join(map(" ".join, places)) for places in several])
    return [f"{len(several)} images stand in several parts, pixel for pixel: {listed}"]


def _review_images(numbers: SetNumbers, look: FirstLook) -> None:
    count, ids = len(numbers.ids), np.array(numbers.ids, dtype=object)
    lowest, highest = numbers.image("lowest"), numbers.image("highest")
    sides = np.stack([numbers.image(side) for side in ("height", "width", "depth")], axis=1).astype(int)
    flat = (sides[:, 2] == 1).all()
    sizes = sorted({tuple(size[:2] if flat else size) for size in sides.tolist()})
    size = _by(sizes[0]) if len(sizes) == 1 else f"{_by(sizes[0])} to {_by(sizes[-1])} ({len(sizes)} sizes)"
    look.facts.append(f"{count} images of {size} pixels, values {lowest.min():g} to {highest.max():g}")
    _review_voxels(numbers, look)
    constant = lowest == highest
    _doubt(look, ids[constant], count, "images hold one value alone")
    if highest.max() > 1 and (lowest >= 0).all() and highest.max() <= 255:
        dark = (highest <= DARK * 255) & ~constant
        _doubt(
            look, ids[dark], count,
            f"images are nearly black (no value above {DARK * 255:.0f} of 255), as 12 bits of data in a file of 16 are",
        )  # fmt: skip
    _doubt(look, ids[numbers.image("finite") < 1], count, "images have NaN or infinite values")
    pages = numbers.image("further_pages") > 0
    _doubt(look, ids[pages], count, "images have further pages or frames, which are not read")
    _doubt_equal(
        look, ids, _alike(numbers.image("checksum"), ~constant), count,
        "images occur more than once, pixel for pixel, and may stand in training and test alike",
    )  # fmt: skip


def _review_voxels(numbers: SetNumbers, look: FirstLook) -> None:
    """Spacing and directions of volumes, which a network sees as they are stored unless they are resampled."""
    steps = np.stack([numbers.image(name) for name in ("row_step", "column_step", "slice_step")], axis=1)
    codes = numbers.image("directions")
    if np.isnan(steps).any() or np.isnan(codes).any():
        return
    low, high = (" x ".join(f"{step:.3g}" for step in ends) for ends in (steps.min(0), steps.max(0)))
    found = ["".join(DIRECTIONS[int(digit)] for digit in f"{int(code):03d}") for code in np.unique(codes)]
    look.facts.append(
        f"voxels of {low if low == high else f'{low} to {high}'} mm, axes leading to {', '.join(found)}"
        + ("; spacing brings all to RAS" if len(found) > 1 else "")
    )


def _review_masks(numbers: SetNumbers, look: FirstLook, *, labelled: bool) -> None:
    share, border, sides = (numbers.mask(name) for name in ("share", "border", "sides"))
    present = ~np.isnan(share)
    count = int(present.sum())
    if not count:
        return
    names = _mask_names(numbers)
    empty, full, inverted = share == 0, share >= FULL, (border >= SURROUNDING) & (share > 0.5) & (share < FULL)
    marked = share[present & ~empty]
    spread = f"{marked.min():.1%} to {marked.max():.1%} (median {np.median(marked):.1%})" if len(marked) else "none"
    look.facts.append(
        f"{count} masks, foreground {spread}; {int(empty.sum())} empty, {int((sides > 0).sum())} touch a border of the "
        f"image, {int((sides == 4).sum())} all four"
    )
    _missing(numbers, present, look)
    _structures(numbers, share, look, labelled=labelled)
    enough = len(numbers.ids) >= ENOUGH
    if empty.sum() == count and (labelled or enough):
        look.refused.append(
            f"all {count} masks are empty: "
            + ("no mask has the chosen labels." if labelled else "look at one, or choose the foreground by labels.")
        )
    elif numbers.masks.shape[1] == 1 or empty.sum() > count / 2:  # that a rater marked nothing is an answer
        _doubt(look, names[empty], count, "masks are empty")
    if full.sum() == count and enough:
        look.refused.append(
            f"all {count} masks are foreground as a whole: look at one, or choose the foreground by labels."
        )
    else:
        _doubt(look, names[full], count, "masks are foreground as a whole")
    if inverted.sum() >= MOST * count and enough and not labelled:
        look.refused.append(
            f"{int(inverted.sum())} of {count} masks look inverted: their foreground fills the border of the image and "
            f"covers a median of {np.median(share[inverted]):.0%} of it; choose the dark structures by labels "
            "(--labels 0), or confirm the light ones (--labels 255, or --labels 1 where masks hold 0 and 1)."
        )
    else:
        _doubt(look, names[inverted], count, "masks look inverted: their foreground fills the border of the image")
    _doubt(look, names[numbers.mask("vanished") == 1], count, "masks are empty at the size of the network")
    soft = numbers.mask("grey") > SOFT
    if soft.any():
        _doubt(
            look, names[soft], count,
            f"masks are soft, up to {np.nanmax(numbers.mask('grey')):.0%} of their pixels being grey, and are cut at "
            "one half",
        )  # fmt: skip
    alike = _alike(numbers.mask("checksum").ravel(), (present & ~empty & ~full).ravel())
    images = np.repeat(numbers.image("checksum"), numbers.masks.shape[1])
    several = [group for group in alike if len(set(images[group])) > 1 and not np.isnan(images[group]).any()]
    _doubt_equal(look, names.ravel(), several, count, "masks are equal though their images differ")


def _missing(numbers: SetNumbers, present: np.ndarray, look: FirstLook) -> None:
    if numbers.columns:
        counts = present.sum(0)
        if (counts < len(numbers.ids)).any():
            listed = ", ".join(
                f"{name}: {marked}" for name, marked in zip(numbers.columns, counts.tolist(), strict=True)
            )
            look.facts.append(f"masks of {len(numbers.ids)} images by {listed}")


def _structures(numbers: SetNumbers, share: np.ndarray, look: FirstLook, *, labelled: bool) -> None:
    """Structures that no mask has a pixel of, and values of masks that are no structure's."""
    names = [column.rpartition(", ")[2] for column in numbers.columns]
    for name in dict.fromkeys(names):
        own = share[:, [place for place, other in enumerate(names) if other == name]]
        if len(set(names)) > 1 and not name.startswith("rater ") and not np.nansum(own):
            sentence = f"no mask has a pixel of {name}"
            way_out = "give its values by labels as they are in the masks, or leave it out."
            look.refused.append(f"{sentence}: {way_out}") if labelled else look.doubtful.append(sentence)
    outside = numbers.mask("outside")
    with_others = np.flatnonzero((outside > 0).any(1))
    if len(with_others):
        values = ", ".join(values_of_bits(int(np.bitwise_or.reduce(outside.astype(np.int64), axis=None))))
        ids = [str(numbers.ids[int(row)]) for row in with_others]
        look.doubtful.append(
            f"{len(ids)} of {len(numbers.ids)} masks hold values that are no structure's and count as background "
            f"({values}): {some_of(ids)}"
        )


def _review_geometry(numbers: SetNumbers, look: FirstLook) -> None:
    names, count = _mask_names(numbers), int((~np.isnan(numbers.mask("share"))).sum())
    reordered = int((numbers.mask("reordered") == 1).sum())
    if reordered:
        look.facts.append(
            f"{reordered} of {count} masks lie in another order of voxels and are brought into the image's"
        )
    beside = ~np.isnan(numbers.mask("beside"))
    if beside.any():
        _doubt(
            look, names[beside], count,
            f"masks lie up to {np.nanmax(numbers.mask('beside')):.1f} voxels beside their images by the affines of "
            "both, and are taken voxel by voxel",
        )  # fmt: skip
    alone = (numbers.mask("overlap") == 0) & (numbers.mask("share") > 0)
    _doubt(look, names[alone], count, "masks overlap no mask of another rater")
    turned = (numbers.image("orientation")[:, None] > 1) & (numbers.mask("orientation") == 1)
    if turned.any():
        upright, stored = numbers.mask("upright")[turned], numbers.mask("stored")[turned]
        better = int((stored - upright > FITS_BETTER).sum())
        _doubt(
            look, names[turned], count,
            "masks have no EXIF orientation and their photographs have one; they are taken as drawn on the upright "
            f"picture, and {better} would fit better on the pixels as stored (mean contrast {_mean(stored)} for "
            f"{_mean(upright)}): save the photographs turned",
        )  # fmt: skip


def _doubt(look: FirstLook, names: np.ndarray, count: int, what: str) -> None:
    if len(names):
        look.doubtful.append(f"{len(names)} of {count} {what}: {some_of(list(names))}")


def _doubt_equal(look: FirstLook, names: np.ndarray, groups: Sequence[np.ndarray], count: int, what: str) -> None:
    if groups:
        listed = some_of([some_of(list(names[group]), separator=" = ") for group in groups])
        look.doubtful.append(f"{sum(map(len, groups))} of {count} {what}: {listed}")


def _mask_names(numbers: SetNumbers) -> np.ndarray:
    """Names of the masks, (N, R)."""
    width = numbers.masks.shape[1]
    columns = [f" {column}" for column in numbers.columns] or [""] * width
    return np.array([[f"{name}{column}" for column in columns] for name in numbers.ids], dtype=object).reshape(
        -1, width
    )


def _alike(checksums: np.ndarray, counted: np.ndarray) -> list[np.ndarray]:
    """Positions of equal checksums among those counted, by groups of at least two."""
    groups = defaultdict(list)
    for position in np.flatnonzero(counted):
        groups[checksums[position]].append(position)
    return [np.array(group) for group in groups.values() if len(group) > 1]


def _by(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))


def _mean(values: np.ndarray) -> str:
    return f"{np.nanmean(values):.2f}" if np.isfinite(values).any() else "-"
