"""Cases of several raters whose masks are squares."""

from __future__ import annotations

import numpy as np
import torch

from monai_ext.data.raters.cases import RaterCase


def case_of(*masks: np.ndarray, presence: list[bool] | None = None) -> RaterCase:
    here = torch.tensor([True] * len(masks) if presence is None else presence)
    return RaterCase(torch.from_numpy(np.array(masks, dtype=np.uint8)), here, None, None, None, None)


def square_at(row: int, column: int, side: int, size: int = 12) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    mask[row : row + side, column : column + side] = 1
    return mask
