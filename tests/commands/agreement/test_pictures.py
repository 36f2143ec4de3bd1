"""What of a case's files is drawn."""

from __future__ import annotations

import numpy as np
from rater_cases import volume
from scored_folders import write, write_case

from monai_ext.commands.agreement import pictures as module
from monai_ext.data import qubiq_items


def test_of_a_volume_the_slice_with_most_disagreement_is_drawn_and_of_a_suspect_its_largest(tmp_path):
    volume(tmp_path)
    masks = np.zeros((2, 4, 4, 3), bool)
    masks[0, :2, :2, 1] = masks[:, :3, :3, 2] = True
    assert module._slice(masks, None) == 1 and module._slice(masks, 1) == 2
    image = module._image(qubiq_items(tmp_path, slices=False)[0], (4, 5, 3))
    assert image.shape == (4, 5, 3) and image.max() == 59


def test_channels_are_averaged(tmp_path):
    folder = write_case(tmp_path / "case01", {1: np.ones((4, 5), np.uint8), 2: np.ones((4, 5), np.uint8)})
    write(folder / "image.nii.gz", np.stack([np.full((4, 5), level) for level in (1.0, 3.0)], -1))
    assert (module._image(qubiq_items(tmp_path)[0], (4, 5)) == 2).all()
