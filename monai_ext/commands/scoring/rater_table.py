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
from monai_ext.commands.scoring.rater_methods import MUST_AGREE_SETTINGS, Method, read_methods
from monai_ext.commands.scoring.rater_row import rater_row
from monai_ext.commands.scoring.rater_table_page import MethodRow, MethodTable, Pair, table_blocks, table_figure
from monai_ext.commands.scoring.records import Interval
from monai_ext.commands.scoring.summaries import group_labels
from monai_ext.commands.statistics import (
    bootstrap_interval,
    mean_of_known,
    paired_wilcoxon_holm,
    pairwise_differences,
    probability_of_first,
)
from monai_ext.runtime.run_log import tell
from monai_ext.storage.files import write_text
from monai_ext.storage.pictures import save_figure
from monai_ext.storage.records import write_record

__all__ = ["RaterTableOptions", "rater_table", "run"]

TOO_DIVERSE = 1.3  # times the diversity of the raters


class Draw(NamedTuple):
    """What the bootstrap draws, and how often."""

    groups: list[str] | None
    resamples: int
    seed: int


@dataclass(frozen=True)
class RaterTableOptions:
    """Write one table of methods for several raters, from the evaluations of their runs.

    Each run folder holds what evaluate.json of the bundles qubiq_holistic and prob_unet wrote: evaluation/summary.json
    and evaluation/cases.csv. Folds of one method are put together, seeds are averaged case by case. Every mean has a
    bootstrap interval over cases, and each pair of methods is compared on the cases that both have.
    """

    runs: Paths
    """folders of runs, or folders above several"""
    output_dir: Path
    """for table.md, table.html, table.json and scores.png"""
    rater_scores: Computed[Path | None] = None
    """scores.json of `score` on the same cases and task: adds the raters' row"""
    group: Computed[str | None] = None
    """regular expression: cases with the same match are drawn together, such as those of a patient (each case)"""
    resamples: int = 10_000
    """of the bootstrap"""
    seed: int = 0
    """of the bootstrap"""


def rater_table(options: RaterTableOptions) -> MethodTable:
    """Write table.md, table.html, table.json and scores.png; returns what table.json holds.

    In the raters' row, scores of sets are left out where its sets have another number of masks than those of the
    runs.

    Raises:
        FileNotFoundError, ResultsError: see `read_methods`; or `rater_scores` is no such file, or lacks the task of the
            runs.
        ValueError: a case's name does not match `group`.
    """
    methods, output_dir = read_methods(options.runs), options.output_dir
    cases = sorted({case for method in methods for case in method.rows})
    groups = group_labels(cases, options.group)
    columns = list(dict.fromkeys(name for method in methods for row in method.rows.values() for name in row))
    draw = Draw(groups, options.resamples, options.seed)
    values = {c: np.array([[m.rows.get(k, {}).get(c, math.nan) for k in cases] for m in methods]) for c in columns}
    summary = methods[0].summary
    ceiling = None
    if options.rater_scores is not None:
        ceiling = rater_row(options.rater_scores, task=summary.settings.task, samples=summary.samples, cases=len(cases))
    first = probability_of_first(values["qubiq_score"], **draw._asdict())
    table = MethodTable(
        cases=len(cases),
        samples=summary.samples,
        raters=summary.raters,
        settings={name: getattr(summary.settings, name) for name in MUST_AGREE_SETTINGS},
        methods=[
            MethodRow(
                method=m.name,
                runs=m.runs,
                seeds=m.seeds,
                sd_over_seeds=_known(m.sd_over_seeds),
                parameters=m.parameters,
                epochs=m.summary.settings.max_epochs,
                training_minutes=_known(m.minutes),
            )
            for m in methods
        ],
        scores={column: _intervals(values[column], draw) for column in columns},
        first_in_qubiq_score=[_known(value) for value in first],
        pairs=_pairs([m.name for m in methods], values["qubiq_score"], draw),
        rater_row=None if ceiling is None else dict(ceiling.scores),
        rater_row_cases=None if ceiling is None else ceiling.cases,
        notes=[*_notes_on_cases(methods), *_notes_on_diversity(methods), *(() if ceiling is None else ceiling.notes)],
        conventions=summary.conventions,
    )
    picture = save_figure(table_figure(table), output_dir / "scores.png")
    blocks = table_blocks(table, picture)
    write_record(output_dir / "table.json", table)
    write_text(output_dir / "table.md", markdown_page(blocks))
    write_text(output_dir / "table.html", html_page(blocks, title="Methods for several raters"))
    return table


def _intervals(values: NDArray[np.float64], draw: Draw) -> list[Interval]:
    low, high = bootstrap_interval(values, **draw._asdict())
    means, counts = mean_of_known(values, axis=1), (~np.isnan(values)).sum(axis=1)
    numbers = zip(means.tolist(), low.tolist(), high.tolist(), counts.tolist(), strict=True)
    return [Interval(mean=_known(m), low=_known(lo), high=_known(hi), cases=n) for m, lo, hi, n in numbers]


def _pairs(names: Sequence[str], values: NDArray[np.float64], draw: Draw) -> list[Pair]:
    pairs, differences = pairwise_differences(values[:, None])
    if not pairs:
        return []
    tests = paired_wilcoxon_holm(differences, groups=draw.groups)
    found = []
    for i, (interval, (a, b)) in enumerate(zip(_intervals(differences, draw), pairs, strict=True)):
        low, high = (math.nan if side is None else side for side in (interval.low, interval.high))
        found.append(
            Pair(
                first=names[a],
                second=names[b],
                p_holm=_known(float(tests.p_holm[i])),
                rank_biserial=_known(float(tests.rank_biserial[i])),
                claimed=is_claimed(tests.p_holm[i], tests.rank_biserial[i], low=low, high=high),
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


def _notes_on_diversity(methods: Sequence[Method]) -> list[str]:
    """A sentence for each method whose samples differ much more than the raters' masks, which lowers its distance."""
    notes = []
    for method in methods:
        pairs = [
            (row.get("sample_diversity", math.nan), row.get("rater_diversity", math.nan))
            for row in method.rows.values()
        ]
        ours, raters = mean_of_known(pairs, axis=0).tolist()
        if ours > TOO_DIVERSE * raters:
            notes.append(
                f"{method.name}: diversity {ours:.3f} is more than {TOO_DIVERSE:g} times that of the raters, "
                f"{raters:.3f}; such sets can have a low energy distance without being right."
            )
    return notes


def _known(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else float(value)


def run(options: RaterTableOptions) -> int:
    """`python -m monai_ext rater_table`."""
    rater_table(options)
    sys.stdout.write((options.output_dir / "table.md").read_text(encoding="utf-8"))
    tell(f"table: {options.output_dir / 'table.html'}")
    return 0
