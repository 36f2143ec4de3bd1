from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_ext.losses import ShiftedCrops


def test_both_images_lose_the_same_rows_and_columns_and_every_offset_occurs():
    torch.manual_seed(0)
    image = torch.arange(42.0).reshape(1, 1, 6, 7)
    seen = []

    def loss(prediction, target):
        torch.testing.assert_close(prediction, target + 100)
        assert target.shape == (1, 1, 4, 5)
        seen.append(int(target[0, 0, 0, 0]))
        return (prediction - target).mean()

    shifted = ShiftedCrops(loss, 2)
    assert all(shifted(image + 100, image) == 100 for _ in range(200))
    assert set(seen) == {7 * top + left for top in range(3) for left in range(3)}


def test_a_lattice_that_a_strided_loss_does_not_see_is_seen():
    torch.manual_seed(0)
    target = torch.zeros(1, 1, 16, 16)
    lattice = target.clone()
    lattice[..., 1::4, 1::4] = 1.0

    def strided(prediction, target):
        return (prediction - target)[..., ::4, ::4].abs().mean()

    assert strided(lattice, target) == 0
    mean = torch.stack([ShiftedCrops(strided, 4)(lattice, target) for _ in range(400)]).mean()
    assert mean == pytest.approx(1 / 25, abs=0.03)  # one offset of five in each direction


def test_gradients_reach_the_prediction_and_bad_shifts_are_refused():
    prediction = torch.rand(1, 1, 8, 8, requires_grad=True)
    ShiftedCrops(nn.L1Loss(), 0)(prediction, torch.zeros(1, 1, 8, 8)).backward()
    assert (prediction.grad != 0).all()
    with pytest.raises(ValueError, match="shift=-1"):
        ShiftedCrops(nn.L1Loss(), -1)
    with pytest.raises(ValueError, match="8x8 pixels cannot lose shift=8"):
        ShiftedCrops(nn.L1Loss(), 8)(prediction, torch.zeros(1, 1, 8, 8))
