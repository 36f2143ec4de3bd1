"""Every metric under every loss, and every pair of losses, with intervals and tests; and both as files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from monai_ext.commands.comparison.results import DISTANCES, Results
from monai_ext.commands.statistics import (
    FoldSummary,
    fold_summary,
    mean_of_known,
    paired_wilcoxon_holm,
    pairwise_differences,
    probability_of_first,
)
from monai_ext.formulas.bootstrap import bootstrap_interval
from monai_ext.storage.files import write_table
from monai_ext.storage.records import write_record

__all__ = [
    "LEVEL", "LossSummary", "PairSummary", "equal_to_p", "is_claimed", "loss_summaries", "p_in_words",
    "pair_summaries", "write_tables",
]  # fmt: skip

LEVEL = 0.05


@dataclass(frozen=True)
class LossSummary:
    """One metric under one loss: over folds, over seeds, and over cases with their 95 % interval."""

    loss: str
    metric: str
    by_fold: FoldSummary
    case_mean: float
    low: float
    high: float
    cases: int
    first: float


@dataclass(frozen=True)
class PairSummary:
    """One metric, two losses, `difference` = first - second over their common cases."""

    metric: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    cases: int
    n: int
    p: float
    p_holm: float
    rank_biserial: float
    folds_for_first: int
    folds: int

    @property
    def claimed(self) -> bool:
        """See `is_claimed`."""
        return is_claimed(self.p_holm, self.rank_biserial, low=self.low, high=self.high)


def is_claimed(p_holm: float, rank_biserial: float, *, low: float, high: float) -> bool:
    """Whether the test rejects (Holm) and the interval of the mean excludes zero on the same side; not if any is NaN.

    >>> is_claimed(0.01, -0.6, low=0.01, high=0.03)  # the mean is above zero by a few cases, most are below
    False
    """
    same_side = low > 0 < rank_biserial or high < 0 > rank_biserial
    return bool(p_holm < LEVEL and same_side)


def p_in_words(p: float) -> str:
    """A p-value with three decimals.

    >>> p_in_words(0.25), p_in_words(1e-9), p_in_words(float("nan"))
    ('0.250', '< 0.001', '–')
    """
    return "–" if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def equal_to_p(p: float) -> str:
    """The same behind "p", with a sign of equality where it has none.

    >>> equal_to_p(0.25), equal_to_p(1e-9)
    ('= 0.250', '< 0.001')
    """
    return p_in_words(p) if p < 0.001 else f"= {p_in_words(p)}"


def loss_summaries(results: Results, metric: str) -> list[LossSummary]:
    """`metric` under every loss that has a finished run; ranking first is over the cases that all of these have."""
    values = results.values[metric]
    cases = mean_of_known(values, axis=1)  # (L, N), seeds averaged
    low, high = bootstrap_interval(cases, groups=results.groups)
    known = np.atleast_1d(~np.isnan(cases).all(axis=1))
    first = np.full(len(cases), np.nan)
    if known.any():
        first[known] = probability_of_first(
            -cases[known] if metric in DISTANCES else cases[known], groups=results.groups
        )
    return [
        LossSummary(
            loss=loss,
            metric=metric,
            by_fold=fold_summary(values[i], results.fold_of, count=results.folds),
            case_mean=float(mean_of_known(cases[i])),
            low=float(low[i]),
            high=float(high[i]),
            cases=int((~np.isnan(cases[i])).sum()),
            first=float(first[i]),
        )
        for i, loss in enumerate(results.losses)
        if known[i]
    ]


def pair_summaries(results: Results, metric: str) -> list[PairSummary]:
    """`metric` for every pair of losses with common cases; Holm over these pairs."""
    values = results.values[metric]
    pairs, differences = pairwise_differences(values)
    if not pairs:
        return []
    tests = paired_wilcoxon_holm(differences, groups=results.groups)
    low, high = bootstrap_interval(differences, groups=results.groups)
    summaries = []
    for i, (a, b) in enumerate(pairs):
        cells = fold_summary(values[a] - values[b], results.fold_of, count=results.folds).cell_means
        folds = mean_of_known(cells, axis=1)
        if np.isnan(folds).all():
            continue
        summaries.append(
            PairSummary(
                metric=metric,
                first=results.losses[a],
                second=results.losses[b],
                difference=float(mean_of_known(differences[i])),
                low=float(low[i]),
                high=float(high[i]),
                cases=int((~np.isnan(differences[i])).sum()),
                n=int(tests.n[i]),
                p=float(tests.p[i]),
                p_holm=float(tests.p_holm[i]),
                rank_biserial=float(tests.rank_biserial[i]),
                folds_for_first=int((folds > 0).sum()),
                folds=int((~np.isnan(folds)).sum()),
            )
        )
    return summaries


def write_tables(
    output: Path, results: Results, losses: Mapping[str, list[LossSummary]], pairs: Mapping[str, list[PairSummary]]
) -> None:
    """Write losses.csv, pairs.csv, cases.csv (every case under every loss and seed) and report.json into `output`."""
    loss_rows = [
        {
            "loss": s.loss,
            "metric": s.metric,
            "mean_over_folds": s.by_fold.mean,
            "sd_over_folds": s.by_fold.sd,
            "folds": s.by_fold.folds,
            "sd_over_seeds": s.by_fold.seed_sd,
            "seeds": s.by_fold.seeds,
            "mean_over_cases": s.case_mean,
            "low": s.low,
            "high": s.high,
            "cases": s.cases,
            "probability_of_first": s.first,
        }
        for summaries in losses.values()
        for s in summaries
    ]
    pair_rows = [{**asdict(pair), "claimed": pair.claimed} for summaries in pairs.values() for pair in summaries]
    case_rows = [
        {"loss": loss, "seed": seed, "fold": int(results.fold_of[s, i]), "id": case}
        | {metric: values[x, s, i] for metric, values in results.values.items()}
        for x, loss in enumerate(results.losses)
        for s, seed in enumerate(results.seeds)
        for i, case in enumerate(results.ids)
        if (loss, int(results.fold_of[s, i]), seed) in results.folders
    ]
    for name, rows in (("losses", loss_rows), ("pairs", pair_rows), ("cases", case_rows)):
        write_table(output / f"{name}.csv", rows)
    missing = [{"loss": loss, "fold": fold, "seed": seed} for loss, fold, seed in results.missing]
    content = {"losses": loss_rows, "pairs": pair_rows, "missing": missing, "undefined": results.undefined}
    write_record(output / "report.json", content)
