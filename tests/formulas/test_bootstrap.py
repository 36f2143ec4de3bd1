"""Bootstrap of means over cases against scipy, a slow loop and hand-computed values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from monai_ext.formulas.bootstrap import bootstrap_interval, resampled_means


def skewed(rows: int, cases: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).beta(8, 1.5, size=(rows, cases))


def test_interval_of_two_cases_holds_the_three_possible_means():
    means = resampled_means([0.0, 1.0], resamples=40_000)[:, 0]
    values, counts = np.unique(means, return_counts=True)
    assert values.tolist() == [0.0, 0.5, 1.0]
    np.testing.assert_allclose(counts / 40_000, [0.25, 0.5, 0.25], atol=0.01)


def test_interval_agrees_with_scipy_percentile_bootstrap():
    values = skewed(1, 120)[0]
    reference = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    low, high = bootstrap_interval(values, resamples=20_000)
    width = reference.high - reference.low
    assert abs(low[0] - reference.low) < 0.03 * width
    assert abs(high[0] - reference.high) < 0.03 * width


def test_cluster_bootstrap_agrees_with_a_slow_loop():
    values, groups = skewed(1, 30)[0], [f"patient{i // 3}" for i in range(28)] + ["alone", "alone too"]
    generator, names = np.random.default_rng(3), sorted(set(groups))
    members = {name: [v for v, g in zip(values, groups, strict=True) if g == name] for name in names}
    slow = []
    for _ in range(4000):
        drawn = [value for name in generator.choice(names, len(names)) for value in members[name]]
        slow.append(np.mean(drawn))
    low, high = bootstrap_interval(values, groups=groups, resamples=20_000)
    width = np.ptp(np.quantile(slow, [0.025, 0.975]))
    np.testing.assert_allclose([low[0], high[0]], np.quantile(slow, [0.025, 0.975]), atol=0.07 * width)


def test_clusters_of_equal_cases_widen_the_interval_by_the_root_of_their_size():
    once = skewed(1, 100)[0]
    copies, groups = np.repeat(once, 4), np.repeat(np.arange(100), 4)
    width = {
        "cases": np.ptp(bootstrap_interval(copies)),
        "clusters": np.ptp(bootstrap_interval(copies, groups=groups)),
    }
    assert width["clusters"] / width["cases"] == pytest.approx(2.0, rel=0.05)


def test_rows_see_the_same_draws_so_a_shifted_row_keeps_its_distance():
    row = skewed(1, 50)[0]
    means = resampled_means(np.stack([row, row + 0.01]), resamples=500)
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 0.01, atol=1e-12)


def test_chunks_of_draws_do_not_change_the_distribution(monkeypatch):
    values = skewed(1, 40)
    whole = np.array(bootstrap_interval(values, resamples=20_000))
    monkeypatch.setattr("monai_ext.formulas.bootstrap.CHUNK", 1000)
    np.testing.assert_allclose(np.array(bootstrap_interval(values, resamples=20_000)), whole, atol=2e-3)


def test_draws_repeat_with_the_seed_and_change_with_it():
    values = skewed(2, 30)
    np.testing.assert_array_equal(resampled_means(values, seed=4), resampled_means(values, seed=4))
    assert not np.array_equal(resampled_means(values, seed=4), resampled_means(values, seed=5))


def test_unknown_cases_are_left_out_of_their_row():
    low, high = bootstrap_interval([[0.5, np.nan, 0.5], [np.nan, np.nan, np.nan]])
    assert (low[0], high[0]) == (0.5, 0.5)
    assert np.isnan(low[1]) and np.isnan(high[1])


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    truth, covered = 8 / 9.5, 0
    for repeat in range(200):
        low, high = bootstrap_interval(skewed(1, 60, seed=repeat)[0], resamples=500, seed=repeat)
        covered += low[0] <= truth <= high[0]
    assert 0.89 <= covered / 200 <= 0.99


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([], {}, "no case"),
        ([1.0, np.inf], {}, "infinite"),
        (np.zeros((2, 2, 2)), {}, r"shape \(2, 2, 2\)"),
        ([1.0, 2.0], {"groups": ["a"]}, "groups name 1 cases, values have 2"),
        ([1.0, 2.0], {"level": 95}, "level = 95"),
        ([1.0, 2.0], {"resamples": 0}, "resamples = 0"),
    ],
)
def test_wrong_arguments_of_the_bootstrap_are_named(values, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, **options)
