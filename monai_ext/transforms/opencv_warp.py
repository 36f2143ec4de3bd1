"""The warp of pictures of 8 bits on a CPU by OpenCV, where that is installed: twice as fast as in floating point.

Colours are those of `torch.nn.functional.grid_sample` rounded to whole levels, at most one level beside them.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

__all__ = ["opencv", "pixel_matrices", "warp_bytes"]

OLDEST = (4, 11)  # before it positions were rounded to 1/32 of a pixel
LARGEST = 2**15 - 1  # pixels of a side
BORDERS = {"reflection": "BORDER_REFLECT", "border": "BORDER_REPLICATE", "zeros": "BORDER_CONSTANT"}
TOGETHER = 4  # channels: a warp of four is faster than one of three


@functools.cache
def opencv() -> ModuleType | None:
    """OpenCV, None where it is missing or too old."""
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError:
        return None
    version = tuple(int(part) for part in cv2.__version__.split(".")[:2])
    return cv2 if version >= OLDEST else None


def pixel_matrices(
    matrix: Tensor,
    source_size: Sequence[int],
    shown_size: Sequence[int],
    output_size: Sequence[int],
    *,
    cut: bool,
    voxels: Tensor | None = None,
) -> np.ndarray:
    """From pixels (x, y) of the result to those of the source, (B, 2, 3) float64; see `SamplingGrid`.

    Args:
        matrix: output to source, (B, 2, 3), see `source_matrix`.
        source_size: (H, W) of the images as decoded.
        shown_size: (H, W) of them as they are warped, shrunk perhaps.
        output_size: (H, W) of the result.
        cut: the result shows the middle of the field of view.
        voxels: sizes of pixels, (B, 2) along (x, y); None: they are square.
    """
    extents, shown, output = (np.array(size[::-1], dtype=np.float64) for size in (source_size, shown_size, output_size))
    share = output / extents if cut else np.ones(2)
    given = matrix.double().numpy()
    sides = extents[None] if voxels is None else extents * voxels.double().numpy()
    linear = given[:, :, :2] * (sides[:, None, :] / sides[:, :, None])
    offset = linear @ (share * (1 / output - 1)) + given[:, :, 2]
    half = shown / 2
    return np.concatenate(
        [linear * (2 * share / output) * half[:, None], ((offset + 1) * half - 0.5)[:, :, None]], axis=2
    )


def warp_bytes(
    images: Tensor, matrices: np.ndarray, size: Sequence[int], *, nearest: bool, padding_mode: str
) -> Tensor:
    """Images (B, C, H, W) of uint8 at the pixels that `matrices` name, (B, C, *size)."""
    cv2 = opencv()
    if cv2 is None:
        raise RuntimeError("OpenCV is not installed.")
    flags = (cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR) | cv2.WARP_INVERSE_MAP
    settings = {"dsize": (size[1], size[0]), "flags": flags, "borderMode": getattr(cv2, BORDERS[padding_mode])}
    source = images.contiguous().numpy()
    result = torch.empty((*images.shape[:2], *size), dtype=torch.uint8)
    target, spare = result.numpy(), np.empty(tuple(size), np.uint8)
    for planes, goal, matrix in zip(source, target, matrices, strict=True):
        for first in range(0, len(planes), TOGETHER):
            together, goals = list(planes[first : first + TOGETHER]), list(goal[first : first + TOGETHER])
            if len(together) == 1:
                cv2.warpAffine(together[0], matrix, dst=goals[0], **settings)
                continue
            missing = TOGETHER - len(together)
            merged = cv2.merge(together + [together[-1]] * missing)
            cv2.split(cv2.warpAffine(merged, matrix, **settings), goals + [spare] * missing)
    return result
