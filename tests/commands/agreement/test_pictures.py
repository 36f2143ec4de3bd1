"""What of a case's files is drawn."""

from __future__ import annotations

import numpy as np
from rater_cases import volume

from monai_ext.commands.agreement import pictures as module


def test_of_a_volume_the_slice_with_most_disagreement_is_drawn_and_of_a_suspect_its_largest(tmp_path):
    volume(tmp_path)
    masks = np.zeros((2, 4, 4, 3), bool)
    masks[0, :2, :2, 1] = masks[:, :3, :3, 2] = True
    assert module._slice(masks, None) == 1 and module._slice(masks, 1) == 2
