"""Synthetic fields whose furrows run in one of a few directions that low resolution does not show: known modes.

All targets of a low-resolution image are known, so that it can be counted how many of them a network finds. Colours
differ from field to field and are seen; the direction of the furrows is drawn for each field and hidden.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from monai_ext.phantoms.aerial import HIDDEN_SCALE, without_low_resolution

__all__ = ["draw_fields", "field_modes", "pick_modes"]

PERIOD = 3.2  # pixels between furrows: finer than two pixels of the low resolution
DEPTH = 0.25  # of the furrows, as a share of the colour
DARKEST, BRIGHTEST = 0.25, 0.75


def field_modes(
    size: Sequence[int] = (64, 64), *, layout_seed: int | Sequence[int] = 0, modes: int = 4, field: int = 32
) -> Tensor:
    """A scene of square fields in each of its modes, (modes, 3, H, W), float32 in [0, 1].

    In version k the furrows of all fields run in direction 180 k / modes degrees. All versions have the same reduction
    by `HIDDEN_SCALE` (bicubic, antialiased, 8 bits) up to rounding.

    Args:
        size: height and width, multiples of `field`.
        layout_seed: of the colours.
        modes: directions, at least 2.
        field: side of a field in pixels, a multiple of `HIDDEN_SCALE`.

    Raises:
        ValueError: sides that do not divide, or fewer than two modes.
    """
    height, width = (int(side) for side in size)
    if modes < 2 or field < HIDDEN_SCALE or field % HIDDEN_SCALE or height % field or width % field:
        raise ValueError(
            f"size={(height, width)}, modes={modes}, field={field}: give two modes or more, a field that is a multiple "
            f"of {HIDDEN_SCALE}, and sides that are multiples of the field."
        )
    rng = np.random.default_rng(layout_seed)
    colours = rng.uniform(DARKEST, BRIGHTEST, (3, height // field, width // field)).astype(np.float32)
    layout = colours.repeat(field, axis=1).repeat(field, axis=2)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    versions = []
    for k in range(modes):
        angle = math.pi * k / modes
        furrows = np.sin(2 * math.pi / PERIOD * (math.cos(angle) * x + math.sin(angle) * y))
        versions.append(layout + np.stack([without_low_resolution(DEPTH * band * furrows) for band in layout]))
    return torch.from_numpy(np.stack(versions)).clamp_(0, 1)


def pick_modes(versions: Tensor, choice: Tensor) -> Tensor:
    """The scene whose field (i, j) is in mode choice[i, j], (3, H, W).

    Args:
        versions: (modes, 3, H, W), as `field_modes` gives them.
        choice: (rows, columns) of the fields, integers below the number of modes.
    """
    height, width = versions.shape[-2:]
    rows, columns = choice.shape
    place = choice.repeat_interleave(height // rows, 0).repeat_interleave(width // columns, 1)
    return versions.gather(0, place.expand(1, versions.shape[1], -1, -1))[0]


def draw_fields(
    size: Sequence[int] = (64, 64),
    *,
    layout_seed: int | Sequence[int] = 0,
    texture_seed: int | Sequence[int] = 0,
    modes: int = 4,
    field: int = 32,
) -> Tensor:
    """A scene whose fields are each in a mode drawn by `texture_seed`, (3, H, W), float32; see `field_modes`."""
    versions = field_modes(size, layout_seed=layout_seed, modes=modes, field=field)
    shape = [side // field for side in versions.shape[-2:]]
    return pick_modes(versions, torch.from_numpy(np.random.default_rng(texture_seed).integers(modes, size=shape)))
