"""Images brought onto one low-resolution image."""

from __future__ import annotations

import numpy as np
import torch
from many_hr import DEGRADATION, MATRIX, noise, smooth

from monai_ext.data.many_hr.measures import low_res_gaps, observed
from monai_ext.data.many_hr.targets import derived_seed, settle


def test_settled_images_are_near_what_they_were_and_exact():
    target = observed(MATRIX, smooth(1)[0])
    start = smooth(1, seed=3).double() / 255
    settled = settle(start, target.double()[None] / 255, degradation=DEGRADATION)
    (gap,) = low_res_gaps(MATRIX, settled, target)
    assert gap.differing == 0 and gap.psnr > 65
    wanted = DEGRADATION.project(start, target.double()[None] / 255) * 255
    assert (settled - wanted).abs().max() < 0.6  # nothing was cut off: the projection, rounded


def test_stark_images_are_settled_within_the_range():
    stark = (noise(1, 3, 64, 64) > 127).to(torch.uint8) * 255
    target = observed(MATRIX, stark[0])
    settled = settle(noise(2, 3, 64, 64, seed=2) / 255.0, target.double()[None] / 255, degradation=DEGRADATION)
    assert all(gap.psnr > 50 for gap in low_res_gaps(MATRIX, settled, target))


def test_seeds_fit_into_json_numbers_and_differ():
    seeds = {derived_seed(seed, record, answer) for seed in range(3) for record in range(5) for answer in range(4)}
    assert len(seeds) == 60 and max(seeds) < 2**53
    assert derived_seed(0, 1, 23) != derived_seed(0, 12, 3) and np.float64(max(seeds)) == max(seeds)
