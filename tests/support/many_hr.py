"""Images and the operator of a one-LR-many-HR data set."""

from __future__ import annotations

import torch

from monai_ext.data.many_hr.measures import operator_matrix
from monai_ext.transforms.degradation import Degradation

DEGRADATION = Degradation(4)
MATRIX = operator_matrix(DEGRADATION, 64)


def noise(*shape, seed=0):
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def smooth(count, size=64, seed=0):
    """Coloured clouds, uint8 (count, 3, size, size)."""
    field = torch.randn(count, 3, size // 8, size // 8, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(field, (size, size), mode="bicubic", align_corners=False)
    grain = torch.randn(fine.shape, generator=torch.Generator().manual_seed(seed + 1))
    return (128 + 25 * fine + 6 * grain).clamp(0, 255).to(torch.uint8)
