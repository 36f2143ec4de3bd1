"""Bootstrap of means over cases, or over groups of cases that belong together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["bootstrap_interval", "checked_rows", "cluster_numbers", "resampled_means"]

CHUNK = 2**22  # resampled cases drawn at a time: 32 MiB of indices


def checked_rows(values: ArrayLike) -> NDArray[np.float64]:
    """Values as (rows, N), float64.

    Raises:
        ValueError: another shape, no case, or an infinite number.
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim not in (1, 2):
        raise ValueError(f"values have shape {rows.shape}: give (cases,) or (rows, cases).")
    rows = np.atleast_2d(rows)
    if rows.shape[1] == 0:
        raise ValueError("values hold no case: at least one is needed.")
    if np.isinf(rows).any():
        raise ValueError("values hold an infinite number: give finite ones, or NaN for a case that was not measured.")
    return rows


def cluster_numbers(groups: Sequence[str] | NDArray | None, cases: int) -> NDArray[np.int64]:
    """The number of each case's group, (N,); without groups each case is one.

    Raises:
        ValueError: a wrong number of groups.
    """
    if groups is None:
        return np.arange(cases)
    if len(groups) != cases:
        raise ValueError(f"groups name {len(groups)} cases, values have {cases}: give one group per case.")
    return np.unique(np.asarray(groups), return_inverse=True)[1]


def resampled_means(
    values: ArrayLike, *, groups: Sequence[str] | None = None, resamples: int = 10_000, seed: int = 0
) -> NDArray[np.float64]:
    """Means of cases drawn with replacement, (resamples, rows); every row sees the same draws.

    With `groups` (one label per case: patient, near-duplicates) whole groups are drawn, and the mean is over the cases
    they bring. NaN cases are left out of their row; a draw without any known case of a row gives NaN there.

    Args:
        values: (N,) or (rows, N).
        groups: N labels, or None when every case stands for itself.

    Raises:
        ValueError: no case, an infinite value, a wrong number of groups, or `resamples` below 1.
    """
    rows = checked_rows(values)
    if resamples < 1:
        raise ValueError(f"resamples = {resamples}: give at least 1.")
    cluster = cluster_numbers(groups, rows.shape[1])
    count = int(cluster.max()) + 1
    known = ~np.isnan(rows)
    sums, sizes = np.zeros((count, len(rows))), np.zeros((count, len(rows)))
    np.add.at(sums, cluster, np.where(known, rows, 0.0).T)
    np.add.at(sizes, cluster, known.T.astype(np.float64))

    generator = np.random.default_rng(seed)
    means = np.empty((resamples, len(rows)))
    step = max(1, CHUNK // count)
    for start in range(0, resamples, step):
        draws = min(step, resamples - start)
        picks = generator.integers(count, size=(draws, count)) + count * np.arange(draws)[:, None]
        weights = np.bincount(picks.ravel(), minlength=draws * count).reshape(draws, count).astype(np.float64)
        size = weights @ sizes
        means[start : start + draws] = np.where(size > 0, weights @ sums / np.maximum(size, 1), np.nan)
    return means


def bootstrap_interval(
    values: ArrayLike,
    *,
    level: float = 0.95,
    groups: Sequence[str] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Percentile bootstrap interval of the mean over cases: (low, high), each (rows,).

    Efron and Tibshirani 1993, chapter 13. One known case gives an interval of no width, none gives NaN; below some
    20 cases percentile intervals are too narrow. Arguments and errors: see `resampled_means`.

    >>> low, high = bootstrap_interval([0.5, 0.5, 0.5])
    >>> float(low[0]), float(high[0])
    (0.5, 0.5)
    """
    if not 0 < level < 1:
        raise ValueError(f"level = {level}: give a share between 0 and 1, such as 0.95.")
    means = resampled_means(values, groups=groups, resamples=resamples, seed=seed)
    bounds = np.full((2, means.shape[1]), np.nan)
    known = ~np.isnan(means).all(axis=0)
    bounds[:, known] = np.nanquantile(means[:, known], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return bounds[0], bounds[1]
