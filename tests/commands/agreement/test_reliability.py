"""Agreement beyond chance: by hand, and against statsmodels, pingouin and the package krippendorff."""

from __future__ import annotations

import numpy as np
import pytest

from monai_ext.commands.agreement.reliability import (
    area_features,
    fleiss_kappa,
    intraclass_correlations,
    krippendorff_alpha,
    vote_table,
)

# Shrout & Fleiss 1979, table 2: six targets, four judges.
SHROUT = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7.0]])
# fmt: off
VOTES = np.array([
    0, 0, 0, 0, 1, 1, 0, 1, 0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 2, 1, 0, 1, 0, 0, 1, 0, 0, 0, 1, 1,
    0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 0, 1, 0, 0, 4, 4, 4, 3, 4, 3, 4, 2, 4, 4, 3, 2, 3, 2, 3, 3, 3, 1,
    2, 3, 3, 3, 3, 3, 3, 3, 3, 2, 4, 3, 2, 2, 4, 2, 1, 2, 4, 2, 2, 2,
])
# fmt: on


def test_intraclass_correlations_are_the_published_ones_and_those_of_pingouin():
    found = intraclass_correlations(area_features(SHROUT).mean(0), cases=6)
    assert {name: round(float(value), 6) for name, value in found.items()} == {
        "ICC(1)": 0.165742, "ICC(2)": 0.289764, "ICC(3)": 0.714841,
    }  # fmt: skip
    assert np.isnan(intraclass_correlations(area_features(SHROUT[:1]).mean(0), cases=1)["ICC(2)"])


def test_fleiss_kappa_is_that_of_statsmodels():
    table = vote_table(VOTES, 4, most=4)
    assert fleiss_kappa(table) == pytest.approx(0.38783788767193994, abs=1e-12)
    assert np.isnan(fleiss_kappa(vote_table(np.zeros(5, int), 4, most=4)))


def test_krippendorffs_alpha_counted_by_hand():
    # two raters, four pixels: yes yes, yes no, no no, no no; o = 1, of 8 votes 3 are yes
    assert krippendorff_alpha(vote_table(np.array([2, 1, 0, 0]), 2, most=2)) == pytest.approx(1 - 7 * 1 / (3 * 5))
    assert np.isnan(krippendorff_alpha(vote_table(np.array([2, 2]), 2, most=2)))


def test_krippendorffs_alpha_is_that_of_the_package_also_with_missing_raters():
    package = pytest.importorskip("krippendorff")
    random = np.random.default_rng(1)
    marks = (random.random((4, 60)) < np.where(np.arange(60) < 30, 0.2, 0.7)).astype(float)
    marks[random.random(marks.shape) < 0.3] = np.nan
    marks[:, 0] = [1, np.nan, np.nan, np.nan]  # a pixel that one rater has seen is left out
    expected = package.alpha(reliability_data=marks, level_of_measurement="nominal")
    tables = []
    for voters in range(1, 5):
        own = marks[:, (~np.isnan(marks)).sum(0) == voters]
        tables.append(vote_table(np.nansum(own, axis=0).astype(int), voters, most=4))
    assert krippendorff_alpha(np.sum(tables, axis=0)) == pytest.approx(expected, abs=1e-12)


def test_many_tables_give_what_single_ones_do():
    tables = np.stack([vote_table(VOTES[start:], 4, most=4) for start in range(5)])
    for function in (krippendorff_alpha, fleiss_kappa):
        assert function(tables).tolist() == [float(function(table)) for table in tables]
