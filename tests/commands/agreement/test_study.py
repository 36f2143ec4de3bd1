"""Sizes of studies, by hand and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from monai_ext.commands.agreement.study import study_size


def pilot(cases: int, raters: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pairwise Dice whose variance is that of cases and of raters, and areas with a spread of a tenth."""
    random = np.random.default_rng(seed)
    own = random.normal(0, 0.05, (cases, raters))
    dice = random.normal(0.8, 0.03, (cases, 1, 1)) + own[:, :, None] + own[:, None]
    dice[:, np.arange(raters), np.arange(raters)] = np.nan
    return dice, 100 * (1 + 0.1 * random.normal(size=(cases, raters)))


def test_two_raters_and_their_interval_by_hand():
    dice = np.full((4, 2, 2), np.nan)
    dice[:, 0, 1] = dice[:, 1, 0] = [0.7, 0.8, 0.8, 0.9]
    areas = np.array([[90.0, 110.0]] * 4)
    found = study_size(dice, areas, reliability=0.5, width=0.1, area_error=0.1)
    first = found.rows[0]
    variance = 2 * 0.01 / 3
    assert first.width == pytest.approx(2 * 1.96 * math.sqrt(variance / 4)) and first.measured
    assert first.cases == math.ceil(variance * (2 * 1.96 / 0.1) ** 2)
    assert first.area == pytest.approx(1.96 * (math.sqrt(200) / 100) / math.sqrt(2))
    assert first.reliability == pytest.approx(2 / 3)
    assert found.rows[1].width is None and found.raters_for_area == math.ceil((1.96 * math.sqrt(200) / 10) ** 2)


def test_the_variance_of_more_raters_is_found_from_few():
    dice, areas = pilot(4000, 8)
    few = study_size(dice[:, :4, :4], areas[:, :4], reliability=0.5, width=0.004, area_error=0.05)
    many = study_size(dice, areas, reliability=0.5, width=0.004, area_error=0.05)
    by_raters = {row.raters: row for row in many.rows}
    for row in few.rows:
        if row.raters <= 8:
            assert row.sd == pytest.approx(by_raters[row.raters].sd, rel=0.05), row.raters
            # of the mean over pairs: own terms enter twice over K
            assert row.sd == pytest.approx(math.sqrt(0.03**2 + 4 * 0.05**2 / row.raters), rel=0.05)
    assert few.raters_for_area == math.ceil((1.96 * 0.1 / 0.05) ** 2)
    expected = next(k for k in range(2, 20) if 2 * 1.96 * math.sqrt((0.0009 + 0.01 / k) / 4000) <= 0.004)
    assert abs(few.raters_for_width - expected) <= 1


def test_where_cases_differ_more_than_raters_no_number_of_raters_suffices():
    dice, areas = pilot(30, 3)
    assert study_size(dice, areas, reliability=0.9, width=0.001, area_error=0.1).raters_for_width is None
    assert study_size(dice[:1], areas[:1], reliability=0.9, width=0.1, area_error=0.1) is None
    wide, usual = (study_size(dice, areas, reliability=0.9, width=0.1, area_error=0.1, design_effect=e) for e in (4, 1))
    assert wide.rows[0].width == pytest.approx(2 * usual.rows[0].width)
