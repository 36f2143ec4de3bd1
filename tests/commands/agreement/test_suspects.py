"""Likely wrong masks among good ones."""

from __future__ import annotations

import numpy as np
from drawn_masks import case_of, square_at

from monai_ext.commands.agreement.measures import measure_case
from monai_ext.commands.agreement.suspects import suspect_masks


def reasons(*masks: np.ndarray) -> dict[int, str]:
    case = case_of(*masks)
    found = suspect_masks(
        case, measure_case(case, spacing=None, tolerance=1), name="a", raters=range(1, len(masks) + 1)
    )
    return {suspect.rater: suspect.reason for suspect in found}


def test_good_masks_are_not_suspected_and_bad_ones_are_named_with_the_reason():
    good, shape = square_at(1, 1, 5), square_at(1, 1, 5)
    shape[1:4, 6:10] = 1  # not symmetric in any way
    assert reasons(good, square_at(1, 2, 5), square_at(2, 1, 5)) == {}
    assert reasons(good, good, square_at(0, 0, 0)) == {3: "empty, and most others mark something"}
    assert reasons(good, good, square_at(8, 8, 3)) == {3: "another object: overlaps with nobody's mask"}
    assert reasons(good, good, good * 0 + 1)[3] == "the whole image"
    assert reasons(shape, shape, shape[::-1])[3].startswith("fits with rows reversed: Dice 1.00 with the others")
    assert reasons(good, good, square_at(5, 5, 3))[3].startswith("apart from the others, who agree by a Dice of 1.00")


def test_two_raters_without_overlap_are_both_named_and_an_agreed_empty_case_is_fine():
    assert set(reasons(square_at(1, 1, 3), square_at(8, 8, 4))) == {1, 2}
    assert reasons(square_at(0, 0, 0), square_at(0, 0, 0)) == {}
    assert reasons(square_at(0, 0, 12), square_at(0, 0, 12)) == {}
    assert reasons(square_at(0, 0, 0), square_at(0, 0, 0), square_at(1, 1, 3)) == {3: "alone: all others mark nothing"}
