"""Windows and their turns."""

from __future__ import annotations

import torch
from many_hr import MATRIX, noise

from monai_ext.data.many_hr.measures import observed
from monai_ext.data.many_hr.plan import turned


def test_turns_are_the_eight_symmetries_and_reduce_alike():
    image = noise(3, 64, 64)
    seen = {turned(image, turn).numpy().tobytes() for turn in range(8)}
    assert len(seen) == 8
    for turn in range(8):
        assert torch.equal(observed(MATRIX, turned(image, turn)), turned(observed(MATRIX, image), turn))
