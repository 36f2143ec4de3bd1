"""What a layout has: pictures with masks of one or several raters, of one or several structures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon2mask

from monai_ext.raster.images import image_size
from monai_ext.raster.masks import read_mask

__all__ = ["ONE_STRUCTURE", "FoundCase", "MaskKey", "Outlines", "mask_of"]

ONE_STRUCTURE = ""  # name of the structure of a data set that has one
Pixels = NDArray[np.uint8]  # (H, W)


class MaskKey(NamedTuple):
    """Whose mask of what: names, as the layout has them."""

    rater: str
    structure: str = ONE_STRUCTURE


@dataclass
class Outlines:
    """Polygons, and runs of pixels, that make up one mask.

    Attributes:
        polygons: (N, 2) each, x and y of their corners in pixels, the centre of the first pixel being (0.5, 0.5).
        masks: (H, W) each, in union with the polygons.
    """

    polygons: list[NDArray[np.float64]] = field(default_factory=list)
    masks: list[Pixels] = field(default_factory=list)

    def drawn(self, size: tuple[int, int]) -> Pixels:
        """The pixels (H, W) whose centre lies inside of a polygon, 0 and 1."""
        mask = np.zeros(size, dtype=bool)
        for corners in self.polygons:
            mask |= polygon2mask(size, corners[:, ::-1] - 0.5)
        for pixels in self.masks:
            mask |= pixels > 0
        return mask.astype(np.uint8)


@dataclass
class FoundCase:
    """A picture and its masks.

    Attributes:
        name: becomes the id; unique in its data set.
        image: a file, or pixels (H, W) or (H, W, 3).
        masks: whose mask of what -> a file, pixels (H, W) of 0 and more, or outlines.
        part: "training", "validation" or "test", where the layout has parts.
        group: what belongs together (patient, lesion), where the layout has it.
    """

    name: str
    image: Path | np.ndarray
    masks: Mapping[MaskKey, Path | Pixels | Outlines]
    part: str | None = None
    group: str | None = None

    def size(self) -> tuple[int, int]:
        """(H, W) of the picture."""
        if isinstance(self.image, np.ndarray):
            return self.image.shape[0], self.image.shape[1]
        return image_size(self.image)


def mask_of(case: FoundCase, key: MaskKey) -> Pixels:
    """A mask of a case as pixels (H, W) of 0 and 1.

    Raises:
        ImageFileError: its file cannot be read, or has more than two values.
        ValueError: it has another size than the picture.
    """
    source, size = case.masks[key], case.size()
    if isinstance(source, Outlines):
        return source.drawn(size)
    pixels = (source > 0).astype(np.uint8) if isinstance(source, np.ndarray) else read_mask(source)[0].numpy()
    if pixels.shape != size:
        where = "" if isinstance(source, np.ndarray) else f" {os.fspath(source)}"
        raise ValueError(
            f"the mask{where} of {case.name} by {key.rater} has {pixels.shape[0]} x {pixels.shape[1]} pixels, its "
            f"picture {size[0]} x {size[1]}: pair the right files."
        )
    return pixels
