"""The consistency loss."""

from __future__ import annotations

import pytest
import torch

from monai_ext.losses.consistency import ConsistencyLoss
from monai_ext.transforms.degradation import Degradation

SCALE = 2


def test_consistency_sees_what_the_reduction_keeps_and_nothing_else():
    degradation = Degradation(SCALE)
    high = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    noise = torch.rand_like(high)
    invisible = noise - degradation.pseudo_inverse(degradation.reduce(noise))
    loss = ConsistencyLoss(degradation)
    assert loss(high + invisible, high) < 1e-12
    expected = (degradation.reduce(high + noise) - degradation.reduce(high)).square().mean()
    torch.testing.assert_close(loss(high + noise, high), expected.float())
    with pytest.raises(ValueError, match="differ in shape"):
        loss(high, high[:1])
