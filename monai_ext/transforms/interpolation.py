"""Upscaling by interpolation, as in Pillow: the baselines of super-resolution."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

__all__ = ["INTERPOLATIONS", "interpolate"]

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def interpolate(low_res: Tensor, scale: int, *, method: str = "bicubic") -> Tensor:
    """(B, C, h, w) -> (B, C, s h, s w) in float32, band by band by Pillow on the host; not clipped.

    Bicubic has a = -1/2, Lanczos three lobes, as in `PIL.Image.resize`; pictures of 8 bits are clipped and rounded
    between its two passes, floats are not.

    >>> interpolate(torch.tensor([[[[0.0, 1.0]]]]), 2, method="nearest")
    tensor([[[[0., 0., 1., 1.],
              [0., 0., 1., 1.]]]])

    Raises:
        ValueError: another method than nearest, bicubic and lanczos.
    """
    if method not in INTERPOLATIONS:
        raise ValueError(f"method={method!r} is unknown: choose one of {', '.join(INTERPOLATIONS)}.")
    height, width = low_res.shape[-2:]
    planes = low_res.detach().to("cpu", torch.float32).flatten(0, 1).numpy()
    size = (scale * width, scale * height)
    upscaled = [np.asarray(Image.fromarray(plane).resize(size, INTERPOLATIONS[method])) for plane in planes]
    return torch.from_numpy(np.stack(upscaled)).view(*low_res.shape[:2], *size[::-1]).to(low_res.device)
