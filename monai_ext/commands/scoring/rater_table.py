"""`rater_table`: one table of methods for several raters, from the evaluations of their runs."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from monai_ext.commands.command_line import Computed, Paths
from monai_ext.commands.comparison.summaries import is_claimed
from monai_ext.commands.html import html_page, markdown_page
from monai_ext.commands.scoring.published import read_published
from monai_ext.commands.scoring.rater_methods import MUST_AGREE_SETTINGS, Method, read_methods
from monai_ext.commands.scoring.rater_row import RaterRow, ceilings, rater_row
from monai_ext.commands.scoring.rater_table_page import (
    FIGURE,
    SHOWN,
    MethodRow,
    MethodTable,
    Pair,
    table_blocks,
    table_figure,
)
from monai_ext.commands.scoring.records import Statistic
from monai_ext.commands.scoring.summaries import group_labels, mean_intervals
from monai_ext.commands.statistics import (
    mean_of_known,
    paired_wilcoxon_holm,
    pairwise_differences,
    probability_of_first,
)
from monai_ext.metrics import BOUNDARY_SCORES
from monai_ext.runtime.run_log import tell
from monai_ext.storage.files import write_text
from monai_ext.storage.pictures import save_figure
from monai_ext.storage.records import finite_or_none, write_record

__all__ = ["RaterTableOptions", "rater_table", "run"]

TOO_DIVERSE = 1.3  # times the diversity of the raters


class Draw(NamedTuple):
    """What the bootstrap draws, and how often."""

    groups: list[str] | None
    resamples: int
    seed: int


@dataclass(frozen=True)
class RaterTableOptions:
    """Write one table of methods for several raters, the best first, from the evaluations of their runs.

    Each run folder holds what evaluate.json of the bundles qubiq_holistic and prob_unet wrote: evaluation/summary.json
    and evaluation/cases.csv. Folds of one method are put together, seeds are averaged case by case. Every mean has a
    bootstrap interval over cases, and each pair of methods is compared on the cases that both have, and on each the
    seeds that both have.
    """

    runs: Paths
    """folders of runs, or folders above several"""
    output_dir: Path
    """for table.md, table.html, table.json and scores.png"""
    by: Computed[tuple[str, ...]] = ()
    """further settings whose values distinguish rows, such as zoom (method and backbone)"""
    targets: Computed[Path | None] = None
    """the data set of the runs: adds the row of one more rater, each left out in turn"""
    rater_scores: Computed[Path | None] = None
    """scores.json of `score` on the same cases and task: adds that row from there"""
    published: Computed[Path | None] = None
    """a CSV file of published figures to show below: method, source, protocol, and columns named like those of
    evaluation/cases.csv"""
    group: Computed[str | None] = None
    """regular expression: cases with the same match are drawn together, such as those of a patient (each case)"""
    resamples: int = 10_000
    """of the bootstrap"""
    seed: int = 0
    """of the bootstrap"""

    def __post_init__(self) -> None:
        if self.targets is not None and self.rater_scores is not None:
            raise ValueError("targets and rater_scores both give the row of one more rater: choose one.")


def rater_table(options: RaterTableOptions) -> MethodTable:
    """Write table.md, table.html, table.json and scores.png; returns what table.json holds.

    In the raters' row, scores of sets are left out where its sets have another number of masks than those of the
    runs.

    Raises:
        FileNotFoundError, ResultsError: see `read_methods`, `ceilings` and `read_published`; or `rater_scores` is no
            such file, or lacks the task of the runs.
        ValueError: a case's name does not match `group`.
    """
    methods, output_dir = read_methods(options.runs, by=options.by), options.output_dir
    cases = sorted({case for method in methods for case in method.rows})
    draw = Draw(group_labels(cases, options.group), options.resamples, options.seed)
    columns = list(dict.fromkeys(name for method in methods for row in method.rows.values() for name in row))
    values = {c: np.array([[m.rows.get(k, {}).get(c, math.nan) for k in cases] for m in methods]) for c in columns}
    order = np.argsort(np.nan_to_num(-mean_of_known(values["qubiq_score"], axis=1), nan=math.inf), kind="stable")
    methods, values = [methods[i] for i in order.tolist()], {name: rows[order] for name, rows in values.items()}
    by_seed = _by_seed(methods, cases)
    summary, names = methods[0].summary, [m.name for m in methods]
    ceiling = _rater_row(options, methods, cases, draw)
    first = probability_of_first(values["qubiq_score"], **draw._asdict())
    ratios = _diversity_ratios(values)
    table = MethodTable(
        cases=len(cases),
        group=options.group,
        samples=summary.samples,
        raters=summary.raters,
        settings={name: getattr(summary.settings, name) for name in MUST_AGREE_SETTINGS},
        methods=[
            MethodRow(
                method=m.name,
                runs=m.runs,
                seeds=m.seeds,
                sd_over_seeds=finite_or_none(m.sd_over_seeds),
                parameters=m.parameters,
                epochs=m.summary.settings.max_epochs,
                training_minutes=finite_or_none(m.minutes),
                diversity_of_raters=finite_or_none(ratio),
                too_diverse=ratio > TOO_DIVERSE,
            )
            for m, ratio in zip(methods, ratios, strict=True)
        ],
        scores={column: mean_intervals(values[column], **draw._asdict()) for column in columns},
        first_in_qubiq_score=[finite_or_none(value) for value in first],
        against_best={c: _against_best(names, c, values[c], by_seed[c], draw) for c in FIGURE if c in columns},
        pairs=_pairs(names, by_seed["qubiq_score"], draw),
        rater_row=None if ceiling is None else dict(ceiling.scores),
        rater_row_cases=None if ceiling is None else ceiling.cases,
        published=[] if options.published is None else read_published(options.published),
        notes=[
            *_notes_on_cases(methods),
            *_notes_on_diversity(names, values, ratios),
            *(() if ceiling is None else ceiling.notes),
        ],
        conventions=summary.conventions,
    )
    picture = save_figure(table_figure(table), output_dir / "scores.png")
    blocks = table_blocks(table, picture)
    write_record(output_dir / "table.json", table)
    write_text(output_dir / "table.md", markdown_page(blocks))
    write_text(output_dir / "table.html", html_page(blocks, title="Methods for several raters"))
    return table


def _by_seed(methods: Sequence[Method], cases: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Score -> values of method, seed and case, (methods, seeds, N), NaN where there is none; scores of the page."""
    seeds = list(dict.fromkeys(seed for method in methods for seed in method.rows_by_seed))
    return {
        column: np.array(
            [
                [[m.rows_by_seed.get(seed, {}).get(case, {}).get(column, math.nan) for case in cases] for seed in seeds]
                for m in methods
            ]
        )
        for column in FIGURE
    }


def _rater_row(options: RaterTableOptions, methods: Sequence[Method], cases: list[str], draw: Draw) -> RaterRow | None:
    summary = methods[0].summary
    if options.rater_scores is not None:
        return rater_row(
            options.rater_scores,
            task=summary.settings.task,
            samples=summary.samples,
            cases=len(cases),
            tolerance=summary.settings.tolerance,
        )
    if options.targets is None:
        return None
    scored = {name for method in methods for row in method.rows.values() for name in row}
    found = ceilings(
        options.targets,
        cases,
        settings=summary.settings,
        samples=summary.samples,
        boundaries=not scored.isdisjoint(BOUNDARY_SCORES),
    )
    names = list(dict.fromkeys(name for scores in found for name in scores))
    values = np.array([[scores.get(name, math.nan) for scores in found] for name in names])
    rows = zip(names, mean_intervals(values, **draw._asdict()), strict=True)
    scores = {name: Statistic(**msgspec.structs.asdict(interval)) for name, interval in rows}
    return RaterRow(scores, scores["qubiq_score"].cases, ())


def _diversity_ratios(values: dict[str, NDArray[np.float64]]) -> list[float]:
    """Diversity of the samples of each method as a multiple of that of the raters on the same cases."""
    if "sample_diversity" not in values or "rater_diversity" not in values:
        return [math.nan] * len(values["qubiq_score"])
    ours, raters = (mean_of_known(values[name], axis=1) for name in ("sample_diversity", "rater_diversity"))
    return [o / r if r > 0 else math.nan for o, r in zip(ours.tolist(), raters.tolist(), strict=True)]


def _pairs(names: Sequence[str], values: NDArray[np.float64], draw: Draw) -> list[Pair]:
    """Every two methods; `values` (methods, seeds, N)."""
    pairs, _ = pairwise_differences(values)
    return _tested(names, pairs, values, draw)


def _against_best(
    names: Sequence[str], column: str, means: NDArray[np.float64], values: NDArray[np.float64], draw: Draw
) -> list[Pair]:
    """Every method less the one of the best mean in a score; `means` (methods, N), `values` (methods, seeds, N)."""
    sign = -1 if SHOWN[column].endswith("↓") else 1
    levels = sign * mean_of_known(means, axis=1)
    if np.isnan(levels).all():
        return []
    best = int(np.nanargmax(levels))
    return _tested(names, [(i, best) for i in range(len(names)) if i != best], values, draw)


def _tested(
    names: Sequence[str], pairs: Sequence[tuple[int, int]], values: NDArray[np.float64], draw: Draw
) -> list[Pair]:
    """First less second of each pair, seed by seed where they share any, else between their means over seeds."""
    if not pairs:
        return []
    means, shared = mean_of_known(values, axis=1), [values[a] - values[b] for a, b in pairs]
    several = [not np.isnan(difference).all() for difference in shared]
    differences = np.stack(
        [
            mean_of_known(difference, axis=0) if known else means[a] - means[b]
            for difference, known, (a, b) in zip(shared, several, pairs, strict=True)
        ]
    )
    tests = paired_wilcoxon_holm(differences, groups=draw.groups)
    found = []
    for i, (interval, (a, b)) in enumerate(zip(mean_intervals(differences, **draw._asdict()), pairs, strict=True)):
        low, high = (math.nan if side is None else side for side in (interval.low, interval.high))
        seeds = mean_of_known(shared[i], axis=1)
        found.append(
            Pair(
                first=names[a],
                second=names[b],
                p_holm=finite_or_none(float(tests.p_holm[i])),
                rank_biserial=finite_or_none(float(tests.rank_biserial[i])),
                claimed=is_claimed(tests.p_holm[i], tests.rank_biserial[i], low=low, high=high),
                by_seed=seeds[~np.isnan(seeds)].tolist(),
                **msgspec.structs.asdict(interval),
            )
        )
    return found


def _notes_on_cases(methods: Sequence[Method]) -> list[str]:
    """A sentence where not all methods have a QUBIQ score of the same cases."""
    known = [{case for case, row in m.rows.items() if not math.isnan(row["qubiq_score"])} for m in methods]
    if all(cases == known[0] for cases in known):
        return []
    counts = ", ".join(f"{method.name} {len(cases)}" for method, cases in zip(methods, known, strict=True))
    return [
        f"Not all methods were scored on the same cases ({counts}; {len(set.intersection(*known))} are common to all). "
        "Means over different cases do not compare; differences use the cases that both methods of a pair have."
    ]


def _notes_on_diversity(
    names: Sequence[str], values: dict[str, NDArray[np.float64]], ratios: Sequence[float]
) -> list[str]:
    """A sentence for each method whose samples differ much more than the raters' masks, which lowers its distance."""
    notes = []
    for place, (name, ratio) in enumerate(zip(names, ratios, strict=True)):
        if ratio > TOO_DIVERSE:
            ours, raters = (float(mean_of_known(values[c][place])) for c in ("sample_diversity", "rater_diversity"))
            notes.append(
                f"{name}: diversity {ours:.3f} is more than {TOO_DIVERSE:g} times that of the raters, "
                f"{raters:.3f}; such sets can have a low energy distance without being right."
            )
    return notes


def run(options: RaterTableOptions) -> int:
    """`python -m monai_ext rater_table`."""
    rater_table(options)
    sys.stdout.write((options.output_dir / "table.md").read_text(encoding="utf-8"))
    tell(f"table: {options.output_dir / 'table.html'}")
    return 0
