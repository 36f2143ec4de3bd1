"""Pixel losses by their names."""

from __future__ import annotations

import pytest
import torch

from monai_ext.losses import pixel_loss

IMAGES = torch.full((2, 3, 4, 4), 0.1), torch.zeros(2, 3, 4, 4)


@pytest.mark.parametrize(("name", "value"), [("l1", 0.1), ("mse", 0.01), ("psnr", -0.2)])
def test_each_name_is_its_loss(name, value):
    torch.testing.assert_close(pixel_loss(name)(*IMAGES), torch.tensor(value), atol=1e-4, rtol=0)


def test_the_last_loss_takes_over_and_other_names_are_refused():
    loss = pixel_loss("l1", "mse", change=0.25)
    loss.progress = 0.3
    torch.testing.assert_close(loss(*IMAGES), torch.tensor(0.01))
    with pytest.raises(ValueError, match="pixel_loss='l2': choose l1, mse or psnr"):
        pixel_loss("l2")
    with pytest.raises(ValueError, match="end_loss='none': choose"):
        pixel_loss("l1", "none")
