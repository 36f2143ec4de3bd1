"""Paired statistics over cases: bootstrap intervals, Wilcoxon signed-rank with Holm, ranking first, fold means.

Everywhere: N cases, NaN = not measured. Rows of one call see the same resampled cases, so that differences stay
paired. What is resampled is the case (or its cluster), with the trained models held fixed: the intervals are about
other images, not of another training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata

from monai_ext.formulas.bootstrap import checked_rows, cluster_numbers, resampled_means

__all__ = [
    "FoldSummary",
    "SignedRankTests",
    "fold_summary",
    "holm",
    "mean_of_known",
    "paired_wilcoxon_holm",
    "pairwise_differences",
    "probability_of_first",
]

EXACT_UP_TO = 300  # differences, 12 ms; above it the p of the normal approximation is within 0.001 without ties
DECIMALS = 12  # 0.9 - 0.8 and 0.8 - 0.7 are a tie, whatever their last bits


@dataclass(frozen=True)
class SignedRankTests:
    """One entry per row of differences, each array (P,): see `paired_wilcoxon_holm`."""

    n: NDArray[np.int64]
    p: NDArray[np.float64]
    p_holm: NDArray[np.float64]
    rank_biserial: NDArray[np.float64]


@dataclass(frozen=True)
class FoldSummary:
    """Means over folds and over seeds, kept apart: see `fold_summary`."""

    cell_means: NDArray[np.float64]  # (F, S)
    mean: float
    sd: float
    folds: int
    seed_means: NDArray[np.float64]  # (S,)
    seed_sd: float
    seeds: int


def mean_of_known(values: ArrayLike, axis: int | None = None) -> NDArray[np.float64]:
    """Mean of what is not NaN, along `axis`; NaN, without a warning, where nothing is known.

    >>> mean_of_known([[1.0, 3.0], [np.nan, 5.0], [np.nan, np.nan]], axis=1).tolist()
    [2.0, 5.0, nan]
    """
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis=axis) / np.maximum(count, 1), np.nan)


def probability_of_first(
    values: ArrayLike, *, groups: Sequence[str] | None = None, resamples: int = 10_000, seed: int = 0
) -> NDArray[np.float64]:
    """Share of bootstrap draws in which a row has the highest mean, (rows,); rows level at the top share the draw.

    Only cases known in every row count, so that no row wins by its missing cases; without any, all are NaN.

    >>> probability_of_first([[0.9, 0.8], [0.7, 0.6]]).tolist()
    [1.0, 0.0]
    """
    rows = checked_rows(values)
    complete = ~np.isnan(rows).any(axis=0)
    if not complete.any():
        return np.full(len(rows), np.nan)
    kept = None if groups is None else [groups[index] for index in np.flatnonzero(complete).tolist()]
    means = resampled_means(rows[:, complete], groups=kept, resamples=resamples, seed=seed).round(DECIMALS)
    first = means == means.max(axis=1, keepdims=True)
    return (first / first.sum(axis=1, keepdims=True)).mean(axis=0)


def pairwise_differences(values: ArrayLike) -> tuple[list[tuple[int, int]], NDArray[np.float64]]:
    """All pairs of methods and their differences per case: pairs [(a, b), ...], differences a - b, (P, N).

    Args:
        values: (methods, seeds, N). The difference is taken seed by seed and then averaged over the seeds that both
            methods have, so that a pair never compares different initial weights.
    """
    values = np.asarray(values, dtype=np.float64)
    pairs = list(combinations(range(len(values)), 2))
    if not pairs:
        return pairs, np.empty((0, values.shape[-1]))
    return pairs, np.stack([mean_of_known(values[a] - values[b], axis=0) for a, b in pairs])


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """P-values adjusted for their number (Holm 1979); NaN stays NaN and does not count.

    >>> holm([0.01, 0.04, 0.03]).round(4).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: int((~np.isnan(p)).sum())]  # NaN sorts last
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def _signed_rank(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Two-sided p and rank-biserial correlation of non-zero differences (n,)."""
    ranks = rankdata(np.abs(differences))
    total, positive = ranks.sum(), ranks[differences > 0].sum()
    effect = (2 * positive - total) / total
    if len(ranks) > EXACT_UP_TO:
        z = (positive - total / 2) / np.sqrt((ranks**2).sum() / 4)  # the sum of squared ranks carries the ties
        return float(2 * norm.sf(abs(z))), float(effect)
    # Exact: how many of the 2^n sign patterns reach each rank sum; mid-ranks are halves, so doubled they are whole.
    doubled = np.rint(2 * ranks).astype(np.int64)
    ways = np.zeros(doubled.sum() + 1)
    ways[0] = 1.0
    for rank in doubled:
        ways[rank:] += ways[: len(ways) - rank].copy()
    reached = int(np.rint(2 * min(positive, total - positive)))
    return float(min(1.0, 2 * ways[: reached + 1].sum() / 2.0 ** len(ranks))), float(effect)


def paired_wilcoxon_holm(differences: ArrayLike, *, groups: Sequence[str] | None = None) -> SignedRankTests:
    """Two-sided Wilcoxon signed-rank test of every row of paired differences, adjusted after Holm over the rows.

    Zero differences are dropped (Wilcoxon 1945). Up to 300 differences p is exact, ties included; above, the normal
    approximation with tie correction. With `groups` the units are the groups' mean differences.

    Degenerate rows: all differences zero gives n = 0, p = 1; no known case gives n = 0, p = NaN. With n below 6 the
    smallest p that can be reached, 2 / 2^n, is above 0.05.

    Args:
        differences: (N,) or (P, N), NaN where a pair is incomplete; see `pairwise_differences`.

    Returns:
        n: differences used; p, p_holm; rank_biserial: (R+ - R-) / (R+ + R-), from -1 to 1.

    >>> tests = paired_wilcoxon_holm([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    >>> float(tests.p[0]), float(tests.rank_biserial[0])
    (0.03125, 1.0)
    """
    differences = np.asarray(differences, dtype=np.float64)
    if differences.ndim == 2 and len(differences) == 0:
        empty = np.empty(0)
        return SignedRankTests(np.empty(0, np.int64), empty, empty, empty)
    rows = checked_rows(differences)
    cluster = cluster_numbers(groups, rows.shape[1])
    n, p, effect = np.zeros(len(rows), np.int64), np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    for index, row in enumerate(rows):
        known = ~np.isnan(row)
        if not known.any():
            continue
        sizes = np.bincount(cluster[known])
        units = np.bincount(cluster[known], weights=row[known])[sizes > 0] / sizes[sizes > 0]
        units = units.round(DECIMALS)
        units = units[units != 0]
        n[index] = len(units)
        p[index], effect[index] = _signed_rank(units) if len(units) else (1.0, 0.0)
    return SignedRankTests(n, p, holm(p), effect)


def fold_summary(values: ArrayLike, folds: ArrayLike, *, count: int) -> FoldSummary:
    """Mean over folds with its standard deviation, and the seeds' means apart.

    The mean of a cell (fold, seed) is over its cases; a fold's mean is over its seeds; `mean` and `sd` (n - 1) are over
    folds. `seed_means` are over the folds that every measured seed has, `seed_sd` is their spread. A standard deviation
    of one number is NaN, never 0.

    Args:
        values: (S, N), NaN where not measured.
        folds: (S, N) integers: the fold in which a case was validated under that seed, -1 where it was not.
        count: number of folds F.

    >>> fold_summary([[0.8, 0.9, 0.6, 0.7]], [[0, 0, 1, 1]], count=2).cell_means.round(2).tolist()
    [[0.85], [0.65]]
    """
    values, folds = np.atleast_2d(np.asarray(values, np.float64)), np.atleast_2d(np.asarray(folds))
    if values.shape != folds.shape:
        raise ValueError(f"values have shape {values.shape}, folds {folds.shape}: they must agree.")
    cells = np.stack([mean_of_known(np.where(folds == fold, values, np.nan), axis=1) for fold in range(count)])
    fold_means = mean_of_known(cells, axis=1)
    measured = ~np.isnan(cells).all(axis=0)
    shared = ~np.isnan(cells[:, measured]).any(axis=1)
    seed_means = np.where(measured, mean_of_known(cells[shared], axis=0), np.nan)
    known_folds, known_seeds = fold_means[~np.isnan(fold_means)], seed_means[~np.isnan(seed_means)]
    return FoldSummary(
        cell_means=cells,
        mean=float(mean_of_known(fold_means)),
        sd=_spread(known_folds),
        folds=len(known_folds),
        seed_means=seed_means,
        seed_sd=_spread(known_seeds),
        seeds=int(measured.sum()),
    )


def _spread(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")
