"""What measures of cases come to: sizes of masks, groups of cases, what does not exist."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import friedmanchisquare

from monai_ext.commands.agreement.summaries import design_effect, known_quantiles, left_out, sizes_differ


def test_quantiles_are_of_what_is_known():
    assert known_quantiles(np.array([1.0, np.nan, 3.0])) == pytest.approx([1.1, 2.0, 2.9])
    assert known_quantiles(np.array([np.nan])) == []


def test_sizes_are_compared_over_groups_of_complete_cases():
    areas = np.random.default_rng(0).random((24, 3)) + [0.0, 0.2, 0.4]
    assert sizes_differ(areas, None) == pytest.approx(friedmanchisquare(*areas.T).pvalue)
    groups = [f"patient {number // 2}" for number in range(24)]
    means = areas.reshape(12, 2, 3).mean(1)
    assert sizes_differ(areas, groups) == pytest.approx(friedmanchisquare(*means.T).pvalue)
    missing = areas.copy()
    missing[0, 1] = np.nan
    assert sizes_differ(missing, None) == pytest.approx(friedmanchisquare(*areas[1:].T).pvalue)
    assert sizes_differ(areas[:, :2], None) is sizes_differ(areas[:9], None) is None
    assert sizes_differ(np.ones((24, 3)), None) is None


def test_equal_cases_of_a_group_count_once():
    dice = np.repeat(np.random.default_rng(1).random(200), 2)
    draw = {"groups": [str(number // 2) for number in range(400)], "resamples": 4000, "seed": 0}
    assert design_effect(dice, draw) == pytest.approx(2, rel=0.1)
    assert design_effect(dice, draw | {"groups": None}) == 1


def test_what_does_not_exist_is_named():
    complete = np.array([True, False])
    lines = left_out([1, 2], complete, None, anonymous=True)
    assert [line.split()[0] for line in lines] == ["Raters", "Fleiss'", "With", "Fewer"]
    assert "over the 1 of 2 cases" in lines[1]
