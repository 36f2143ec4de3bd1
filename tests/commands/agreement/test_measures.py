"""The numbers of one case, counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drawn_masks import case_of, square_at

from monai_ext.commands.agreement.measures import HABITS, measure_case


def test_each_rater_is_measured_against_the_others():
    found = measure_case(
        case_of(square_at(2, 2, 4), square_at(2, 2, 4), square_at(3, 2, 4)), spacing=(2.0, 1.0), tolerance=1
    )
    assert found.areas.tolist() == [32, 32, 32]
    assert found.equal.tolist() == [[False, True, False], [True, False, False], [False] * 3]
    names = dict(zip(HABITS, found.habits[2], strict=False))
    assert names == pytest.approx({"size": 0, "over": 4 / 16, "under": 4 / 16, "roughness": 0})
    assert found.habits[2, 4:].tolist() == [2, 0]  # one row of two units
    assert found.pairs["dice"][0, 2] == 0.75 and found.pairs["hd95"][0, 2] == 2 and np.isnan(found.pairs["dice"][1, 1])


def test_votes_are_counted_in_the_image_and_in_the_box_around_all_masks():
    found = measure_case(case_of(square_at(2, 2, 2), square_at(2, 3, 2)), spacing=None, tolerance=1)
    image, box = found.votes
    assert image[2].tolist() == [144 - 6, 4, 2] and not image[:2].any()
    assert box[2].tolist() == [4 * 5 - 6, 4, 2]  # two rows and three columns, and a margin of one


def test_a_larger_and_rougher_mask_shows_in_its_habits():
    comb = square_at(1, 1, 8)
    comb[2:8:2, 4:9] = 0
    found = measure_case(case_of(square_at(1, 1, 8), square_at(1, 1, 8), comb), spacing=None, tolerance=1)
    assert found.habits[2, 0] == pytest.approx(math.log(comb.sum() / 64))
    assert found.habits[2, 3] > 0.5 > abs(found.habits[0, 3] - found.habits[1, 3])


def test_missing_raters_and_empty_masks_have_no_habits():
    masks = [square_at(2, 2, side) for side in (4, 4, 4, 0)]
    found = measure_case(case_of(*masks, presence=[True, True, False, True]), spacing=None, tolerance=1)
    assert np.isnan(found.areas[2]) and np.isnan(found.habits[2]).all() and np.isnan(found.pairs["hd95"][2]).all()
    assert found.areas[3] == 0 and np.isnan(found.habits[3, 0]) and found.habits[3, 2] == 1
    assert found.pairs["hd95"][0, 3] == pytest.approx(math.hypot(12, 12))


def test_volumes_are_measured_as_images_are():
    ball = (np.indices((9, 9, 9)) - 4.0) ** 2
    mask = (ball.sum(0) < 12).astype(np.uint8)
    found = measure_case(case_of(mask, mask), spacing=(1.0, 1.0, 2.0), tolerance=1)
    assert found.areas[0] == 2 * mask.sum() and found.habits.shape == (2, 7) and np.allclose(found.habits, 0)
