"""Interpolation against Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from monai_ext.transforms.interpolation import interpolate


@pytest.mark.parametrize("method", ["nearest", "bicubic", "lanczos"])
def test_enlargement_is_pillows_of_8_bit_pictures_up_to_rounding(method):
    # no overshoot: 8-bit pictures are clipped between Pillow's two passes, floats are not
    pixels = np.random.default_rng(0).integers(90, 166, (5, 7, 3), dtype=np.uint8)
    expected = Image.fromarray(pixels).resize((21, 15), getattr(Image.Resampling, method.upper()))
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    result = (interpolate(images, 3, method=method).clamp(0, 1) * 255).round()
    assert np.abs(result[0].permute(1, 2, 0).numpy() - np.asarray(expected, dtype=np.float32)).max() <= 1


def test_unknown_interpolation_is_refused():
    with pytest.raises(ValueError, match="method='cubic' is unknown: choose one of nearest, bicubic, lanczos"):
        interpolate(torch.zeros(1, 1, 2, 2), 2, method="cubic")
