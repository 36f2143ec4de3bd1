"""The comparison's statistics against hand-computed values, scipy and slow references."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from monai_ext.commands.statistics import (
    EXACT_UP_TO,
    fold_summary,
    holm,
    mean_of_known,
    paired_wilcoxon_holm,
    pairwise_differences,
    probability_of_first,
)


def skewed(rows: int, cases: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).beta(8, 1.5, size=(rows, cases))


def enumerated_p(differences: list[float]) -> float:
    """Two-sided p by listing all 2^n sign patterns of the ranks, ties as mid-ranks."""
    ranks = stats.rankdata(np.abs(differences))
    observed = ranks[np.asarray(differences) > 0].sum()
    extreme = abs(observed - ranks.sum() / 2)
    sums = np.array([np.dot(signs, ranks) for signs in product((0, 1), repeat=len(ranks))])
    return float(np.mean(np.abs(sums - ranks.sum() / 2) >= extreme - 1e-9))


# --------------------------------------------------------------------------------------------------------- ranking


def test_equal_rows_share_the_first_place():
    row = skewed(1, 20)[0]
    np.testing.assert_allclose(probability_of_first(np.stack([row, row, row - 0.1])), [0.5, 0.5, 0.0])


def test_probability_of_first_agrees_with_the_normal_law_of_the_mean_difference():
    generator = np.random.default_rng(0)
    base = generator.normal(0.9, 0.05, 400)
    rival = base - generator.normal(0.002, 0.04, 400)
    difference = base - rival
    expected = stats.norm.cdf(difference.mean() / (difference.std() / np.sqrt(400)))
    assert probability_of_first(np.stack([base, rival]))[0] == pytest.approx(expected, abs=0.02)


def test_a_row_does_not_win_by_its_missing_cases():
    first, second = [0.9, 0.1, 0.9], [0.8, np.nan, 0.8]
    assert probability_of_first([first, second]).tolist() == [1.0, 0.0]
    assert np.isnan(probability_of_first([[0.9, np.nan], [np.nan, 0.9]])).all()


# -------------------------------------------------------------------------------------------------------- Wilcoxon


def test_exact_p_agrees_with_scipy_without_ties():
    rows = np.random.default_rng(0).normal(0.3, 1.0, size=(6, 25))
    expected = [stats.wilcoxon(row, method="exact").pvalue for row in rows]
    np.testing.assert_allclose(paired_wilcoxon_holm(rows).p, expected, rtol=1e-10)


@pytest.mark.parametrize("differences", [[1, 1, -1, 2, 2, 3, 3, -4], [1, 1, 1, 1, 1], [2, -2], [-1, -1, 5, 5, 5, 5, 7]])
def test_exact_p_with_ties_agrees_with_the_enumeration_of_all_signs(differences):
    assert paired_wilcoxon_holm(np.array(differences) / 10).p[0] == pytest.approx(enumerated_p(differences), abs=1e-12)


def test_normal_approximation_agrees_with_scipy_with_ties_and_zeros():
    rows = np.random.default_rng(1).integers(-4, 6, size=(5, 2 * EXACT_UP_TO)) / 100
    expected = [stats.wilcoxon(row, zero_method="wilcox", correction=False, method="asymptotic").pvalue for row in rows]
    np.testing.assert_allclose(paired_wilcoxon_holm(rows).p, expected, rtol=1e-8)


def test_exact_and_approximate_p_meet_at_the_border(monkeypatch):
    row = np.random.default_rng(2).normal(0.2, 1.0, 50)
    exact = paired_wilcoxon_holm(row).p[0]
    monkeypatch.setattr("monai_ext.commands.statistics.EXACT_UP_TO", 0)
    assert paired_wilcoxon_holm(row).p[0] == pytest.approx(exact, rel=0.05)


def test_differences_equal_but_for_rounding_are_ties():
    noisy = [0.9 - 0.8, 0.8 - 0.7, 0.7 - 0.6, -(0.6 - 0.5)]
    assert len(set(np.abs(noisy))) > 1
    assert paired_wilcoxon_holm(noisy).p[0] == pytest.approx(enumerated_p([1, 1, 1, -1]))


def test_equal_methods_have_p_one():
    tests = paired_wilcoxon_holm(np.zeros(30))
    assert (tests.n[0], tests.p[0], tests.p_holm[0], tests.rank_biserial[0]) == (0, 1.0, 1.0, 0.0)


def test_five_cases_can_never_be_significant_and_six_can():
    assert paired_wilcoxon_holm(np.arange(1, 6)).p[0] == 2 / 2**5
    assert paired_wilcoxon_holm(np.arange(1, 7)).p[0] == 2 / 2**6


def test_swapping_the_methods_keeps_p_and_turns_the_effect():
    row = np.random.default_rng(5).normal(0.5, 1.0, 20)
    forth, back = paired_wilcoxon_holm(row), paired_wilcoxon_holm(-row)
    assert forth.p[0] == back.p[0]
    assert forth.rank_biserial[0] == pytest.approx(-back.rank_biserial[0])


def test_p_is_exact_where_the_normal_approximation_is_on_the_other_side_of_the_level(monkeypatch):
    generator = np.random.default_rng(0)
    draws = [generator.normal(0.28, 1.0, 51) for _ in range(100)]
    exact = paired_wilcoxon_holm(np.stack(draws)).p
    scipys = [stats.wilcoxon(row, method="exact").pvalue for row in draws]
    np.testing.assert_allclose(exact, scipys, rtol=1e-9)
    monkeypatch.setattr("monai_ext.commands.statistics.EXACT_UP_TO", 50)
    assert np.abs(paired_wilcoxon_holm(np.stack(draws)).p - exact).max() > 0.001


def test_above_what_is_exact_the_normal_approximation_is_as_near_as_stated(monkeypatch):
    generator, size = np.random.default_rng(1), EXACT_UP_TO + 1
    rows = np.stack([generator.normal(shift, 1.0, size) for shift in np.linspace(0, 0.2, 20)])
    approximate = paired_wilcoxon_holm(rows).p
    monkeypatch.setattr("monai_ext.commands.statistics.EXACT_UP_TO", size)
    np.testing.assert_allclose(approximate, paired_wilcoxon_holm(rows).p, atol=0.001, rtol=0)


def test_groups_count_once_and_unknown_pairs_not_at_all():
    differences = [1.0, 3.0, 2.5, np.nan, -1.0]
    tests = paired_wilcoxon_holm(differences, groups=["a", "a", "b", "c", "d"])
    assert tests.n[0] == 3
    assert tests.p[0] == pytest.approx(enumerated_p([2.0, 2.5, -1.0]))


def test_a_pair_without_a_common_case_is_unknown_and_outside_the_family():
    tests = paired_wilcoxon_holm([[1, 2, 3, 4, 5, 6], [np.nan] * 6])
    assert np.isnan(tests.p[1]) and np.isnan(tests.p_holm[1])
    assert tests.p_holm[0] == tests.p[0]


def test_holm_by_hand():
    # sorted .005 .01 .03 .04 times 4 3 2 1 = .02 .03 .06 .04, never falling: .02 .03 .06 .06
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.9, np.nan, 0.8]), [1.0, np.nan, 1.0])
    assert holm([]).shape == (0,)


def test_no_pair_gives_no_test():
    pairs, differences = pairwise_differences(np.ones((1, 2, 4)))
    assert pairs == [] and differences.shape == (0, 4)
    assert paired_wilcoxon_holm(differences).p.shape == (0,)


def test_false_claims_stay_below_the_level_under_holm():
    generator, claims = np.random.default_rng(0), 0
    for _ in range(200):
        _, differences = pairwise_differences(generator.normal(size=(4, 1, 30)))
        claims += (paired_wilcoxon_holm(differences).p_holm < 0.05).any()
    assert claims / 200 <= 0.08


# ----------------------------------------------------------------------------------------- pairs, folds and seeds


def test_differences_use_only_the_seeds_both_methods_have():
    first = [[0.9, 0.8], [0.5, 0.4]]
    second = [[0.8, 0.6], [np.nan, np.nan]]
    pairs, differences = pairwise_differences([first, second])
    assert pairs == [(0, 1)]
    np.testing.assert_allclose(differences, [[0.1, 0.2]])


def test_fold_summary_by_hand():
    values = [[0.8, 0.9, 0.6, 0.7], [0.9, 1.0, 0.7, 0.8]]
    summary = fold_summary(values, [[0, 0, 1, 1], [0, 0, 1, 1]], count=2)
    np.testing.assert_allclose(summary.cell_means, [[0.85, 0.95], [0.65, 0.75]])
    assert summary.mean == pytest.approx(0.8)
    assert summary.sd == pytest.approx(0.2 / np.sqrt(2))  # 0.9 and 0.7
    np.testing.assert_allclose(summary.seed_means, [0.75, 0.85])
    assert summary.seed_sd == pytest.approx(0.1 / np.sqrt(2))
    assert (summary.folds, summary.seeds) == (2, 2)


def test_seeds_are_compared_over_the_folds_they_share():
    nan = np.nan
    summary = fold_summary([[0.8, 0.6], [0.9, nan]], [[0, 1], [0, -1]], count=3)
    np.testing.assert_allclose(summary.seed_means, [0.8, 0.9])
    assert summary.mean == pytest.approx((0.85 + 0.6) / 2)
    assert (summary.folds, summary.seeds) == (2, 2)


def test_the_spread_of_one_fold_or_one_seed_is_unknown_not_zero():
    summary = fold_summary([0.8, 0.9], [0, 0], count=5)
    assert summary.mean == pytest.approx(0.85)
    assert np.isnan(summary.sd) and np.isnan(summary.seed_sd)
    assert (summary.folds, summary.seeds) == (1, 1)


def test_fold_summary_names_shapes_that_disagree():
    with pytest.raises(ValueError, match=r"\(1, 3\), folds \(1, 2\)"):
        fold_summary([0.1, 0.2, 0.3], [0, 1], count=2)


def test_mean_of_nothing_is_unknown_without_a_warning(recwarn):
    assert np.isnan(mean_of_known([np.nan, np.nan]))
    assert not recwarn.list
